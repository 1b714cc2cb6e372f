"""Hyperparameter search around `cpsc`: Ray Tune, Optuna and MLflow. No tensor arithmetic lives here."""

import importlib
from typing import TYPE_CHECKING, Any

from tuning.process_settings import variables, yielding_threads

__all__ = [
    "criteria_frame",
    "load_results",
    "load_study",
    "resume_study",
    "run_study",
    "run_trial",
    "trials_frame",
    "watch",
    "write_page",
]

if TYPE_CHECKING:
    from tuning.api import (
        criteria_frame,
        load_results,
        load_study,
        resume_study,
        run_study,
        run_trial,
        trials_frame,
        watch,
        write_page,
    )


def __getattr__(name: str) -> Any:
    """Import the API on demand: a command that only prints help must not wait for Ray."""
    if name in __all__:
        with variables(yielding_threads()):  # as the command line does; without effect if PyTorch is already loaded
            return getattr(importlib.import_module("tuning.api"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
