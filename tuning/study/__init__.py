"""Study file to `Study`: parsing, what lies over what, the space that is searched, and validation whole before anything starts."""

import importlib
from typing import TYPE_CHECKING, Any

__all__ = ["Study", "TeacherSource", "build_config", "load_study"]

if TYPE_CHECKING:
    from tuning.study.base_config import build_config
    from tuning.study.config import Study, TeacherSource, load_study


def __getattr__(name: str) -> Any:
    """On demand, for these bring torch with them: help and a shell's completion, which need single modules, do not wait for it."""
    if name in __all__:
        return getattr(importlib.import_module("tuning.study.config"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
