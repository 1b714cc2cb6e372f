"""Runs a study from its file to its champion: drives Ray Tune, records every result, survives interruptions."""

from tuning.sweep.driver import check_sweep, resume_sweep, run_sweep
from tuning.sweep.dry_run import describe, plan_figures
from tuning.sweep.estimate import estimate_sweep, measure_times
from tuning.sweep.recovery import close_dead_launches

__all__ = [
    "check_sweep",
    "close_dead_launches",
    "describe",
    "estimate_sweep",
    "measure_times",
    "plan_figures",
    "resume_sweep",
    "run_sweep",
]
