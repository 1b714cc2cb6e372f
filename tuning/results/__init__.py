"""The read side: results of a launch, read from its journal or from MLflow, and recorded trials with their checkpoints.

`from_mlflow`, `recorded_trial` and `checkpoints` import MLflow, so import them by their full names.
"""

from tuning.results.choice import Finalist
from tuning.results.from_journal import JournalReading, launch_from_journal
from tuning.results.model import Launch, SweepSummary
from tuning.results.trial_record import TrialRecord

__all__ = ["Finalist", "JournalReading", "Launch", "SweepSummary", "TrialRecord", "launch_from_journal"]
