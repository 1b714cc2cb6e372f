"""A first study for a user's own teacher: inspect the weights, ask for what they do not tell, write a commented study file."""

from tuning.init.first_study import write_first_study
from tuning.init.questions import Ask, parse_constants

__all__ = ["Ask", "parse_constants", "write_first_study"]
