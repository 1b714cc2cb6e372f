"""A launch on disk: its folder, its journal of what happened, and what a killed study is rebuilt from."""

from tuning.launch.history import LaunchHistory, TrialHistory, fold
from tuning.launch.journal import DriverLock, Journal, JournalError
from tuning.launch.launch import new_launch, open_launch

__all__ = ["DriverLock", "Journal", "JournalError", "LaunchHistory", "TrialHistory", "fold", "new_launch", "open_launch"]
