"""A study from its file to its champion: Ray Tune driven, every result recorded, interruptions survived."""

from tuning.sweep.driver import resume_sweep, run_sweep
from tuning.sweep.dry_run import describe

__all__ = ["describe", "resume_sweep", "run_sweep"]
