"""The read side: what a launch found, from its journal or back from MLflow, and each recorded trial with its checkpoints."""

from tuning.results.model import Launch, SweepSummary, TrialRecord, launch_from_journal, load_launch

__all__ = ["Launch", "SweepSummary", "TrialRecord", "launch_from_journal", "load_launch"]
