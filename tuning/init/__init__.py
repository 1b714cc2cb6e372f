"""First study of a user's own teacher: its weights looked at, what they leave unsaid asked, the file written with comments."""

from tuning.init.first_study import write_first_study
from tuning.init.questions import Ask, parse_constants

__all__ = ["Ask", "parse_constants", "write_first_study"]
