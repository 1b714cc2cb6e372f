"""Methods by name."""

from cpsc.methods.base import AbstractMethod, Terms, View
from cpsc.methods.cpsc import Cpsc

__all__ = ["METHODS", "AbstractMethod", "Terms", "View"]

METHODS = {"cpsc": Cpsc}
