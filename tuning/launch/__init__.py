"""A launch on disk: its folder, its journal of events, and the history that a killed launch is rebuilt from.

`launch` and `folder`, which create and open launches, need the study, so they are imported by their full names.
"""

from tuning.launch.event_log import EventLog
from tuning.launch.history import LaunchHistory, TrialHistory, replay_events
from tuning.launch.journal import DriverLock, Journal, JournalError

__all__ = ["DriverLock", "EventLog", "Journal", "JournalError", "LaunchHistory", "TrialHistory", "replay_events"]
