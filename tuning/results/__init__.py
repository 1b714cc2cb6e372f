"""The read side: what a launch found, from its journal or back from MLflow, and each recorded trial with its checkpoints.

`from_mlflow`, `recorded_trial` and `checkpoints` bring MLflow with them, and are imported by their full names.
"""

from tuning.results.choice import Finalist
from tuning.results.from_journal import JournalReading, launch_from_journal
from tuning.results.model import Launch, SweepSummary
from tuning.results.trial_record import TrialRecord

__all__ = ["Finalist", "JournalReading", "Launch", "SweepSummary", "TrialRecord", "launch_from_journal"]
