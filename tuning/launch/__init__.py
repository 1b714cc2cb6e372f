"""A launch on disk: its folder, its journal of what happened, and the history that a killed study is rebuilt from.

`launch` and `folder`, which make and open one, need the study, and are imported by their full names.
"""

from tuning.launch.event_log import EventLog
from tuning.launch.history import LaunchHistory, TrialHistory, replay_events
from tuning.launch.journal import DriverLock, Journal, JournalError

__all__ = ["DriverLock", "EventLog", "Journal", "JournalError", "LaunchHistory", "TrialHistory", "replay_events"]
