"""Hyperparameter search around `cpsc`: Ray Tune, Optuna and MLflow. No tensor arithmetic lives here."""

import importlib
import os
from typing import TYPE_CHECKING, Any

# Before anything imports Ray, which reads some of it then. Ray's own output engine ignores reporters and prints boxes; its
# per-trial JSON, CSV and TensorBoard files repeat what MLflow holds; its snapshots are not what a launch is rebuilt from.
os.environ.setdefault("RAY_AIR_NEW_OUTPUT", "0")
os.environ.setdefault("TUNE_DISABLE_AUTO_CALLBACK_LOGGERS", "1")
os.environ.setdefault("TUNE_GLOBAL_CHECKPOINT_S", "600")
os.environ.setdefault("RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO", "0")

__all__ = ["load_results", "load_study", "resume_study", "run_study", "run_trial", "trials_frame", "write_page"]

if TYPE_CHECKING:
    from tuning.api import load_results, load_study, resume_study, run_study, run_trial, trials_frame, write_page


def __getattr__(name: str) -> Any:
    """The API on demand: a command that prints help must not wait for Ray."""
    if name in __all__:
        return getattr(importlib.import_module("tuning.api"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
