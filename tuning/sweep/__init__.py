"""A study from its file to its champion: Ray Tune driven, every result recorded, interruptions survived."""

from tuning.sweep.driver import check_sweep, resume_sweep, run_sweep
from tuning.sweep.dry_run import describe
from tuning.sweep.recovery import close_dead_launches

__all__ = ["check_sweep", "close_dead_launches", "describe", "resume_sweep", "run_sweep"]
