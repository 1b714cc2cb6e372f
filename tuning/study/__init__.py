"""Study file to `Study`: parsing, what lies over what, the space that is searched, and validation whole before anything starts."""

from tuning.study.config import Study, TeacherSource, load_study
from tuning.study.search_space import build_config

__all__ = ["Study", "TeacherSource", "build_config", "load_study"]
