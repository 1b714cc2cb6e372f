"""Errors, each said in one line: what, where, the rule, and what to do."""

from collections.abc import Sequence


class CpscError(Exception):
    """Base of every error this package raises on purpose; its message is one line for a person."""


class ConfigError(CpscError):
    """A setting breaks a rule; the message names path, value and rule."""


class DataError(CpscError):
    """A dataset or image file is missing, corrupt or of another shape than promised."""


class CheckpointError(CpscError):
    """A checkpoint, teacher bundle or probe file cannot be read or does not fit."""


class MissingSettingError(CheckpointError):
    """A file leaves something unsaid that its user knows: `settings`, keys of a study's ``teacher``, of which it wants all.

    `options`: what a single one may be, where only some values can be.
    """

    def __init__(self, message: str, *settings: str, options: Sequence[str] = ()) -> None:
        super().__init__(message)
        self.settings = settings
        self.options = tuple(options)

    def said_of(self, place: object) -> "MissingSettingError":
        """The same, with `place` before its message."""
        return MissingSettingError(f"{place}: {self}", *self.settings, options=self.options)


class DivergedError(CpscError):
    """A loss term stopped being finite, or exploded: a bad point of the search space, not a broken machine."""
