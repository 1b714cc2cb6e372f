"""Replay of a recorded trial: compared with its record, under a debugger, or profiled."""

from tuning.replay.replay import ReplayOptions, replay_trial

__all__ = ["ReplayOptions", "replay_trial"]
