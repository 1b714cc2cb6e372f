"""The search: Optuna proposes trials, ASHA prunes them, and both are rebuilt from a launch's history.

`optuna_search` and `asha` import Ray, so they are imported by their full names.
"""

from tuning.search.optuna_mirror import StudyMirror, mirroring

__all__ = ["StudyMirror", "mirroring"]
