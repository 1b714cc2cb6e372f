"""Who decides: Optuna proposes, ASHA prunes, and both are rebuilt from a launch's history.

`optuna_search` and `asha` bring Ray with them, and are imported by their full names.
"""

from tuning.search.optuna_mirror import StudyMirror, mirroring

__all__ = ["StudyMirror", "mirroring"]
