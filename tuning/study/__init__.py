"""Study file to `Study`: parsing, what lies over what, the space that is searched, and validation whole before anything starts."""

from tuning.study.base_config import build_config
from tuning.study.config import Study, TeacherSource, load_study

__all__ = ["Study", "TeacherSource", "build_config", "load_study"]
