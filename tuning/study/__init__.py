"""From a study file to a `Study`: parsing, precedence of settings, search space, and full validation before anything starts."""

import importlib
from typing import TYPE_CHECKING, Any

__all__ = ["Study", "TeacherSource", "build_config", "load_study"]

if TYPE_CHECKING:
    from tuning.study.base_config import build_config
    from tuning.study.config import Study, TeacherSource, load_study


def __getattr__(name: str) -> Any:
    """Import on demand, since these import torch: help and shell completion need single modules and must not wait for it."""
    if name in __all__:
        return getattr(importlib.import_module("tuning.study.config"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
