"""Errors. Each message is one line: what, where, the rule, and what to do."""

from collections.abc import Sequence


class CpscError(Exception):
    """Base class of every error that this package raises on purpose; the message is one line for a person to read."""


class ConfigError(CpscError):
    """A setting breaks a rule; the message names path, value and rule."""


class DataError(CpscError):
    """A dataset or image file is missing, corrupt or of an unexpected shape."""


class CheckpointError(CpscError):
    """A checkpoint, teacher bundle or probe file cannot be read or does not fit."""


class MissingSettingError(CheckpointError):
    """A file does not say something that its user knows. `settings`: the keys of a study's ``teacher`` that are all needed.

    `options`: the possible values of a single setting, if only some are possible.
    """

    def __init__(self, message: str, *settings: str, options: Sequence[str] = ()) -> None:
        super().__init__(message)
        self.settings = settings
        self.options = tuple(options)

    def said_of(self, place: object) -> "MissingSettingError":
        """The same error with `place` in front of its message."""
        return MissingSettingError(f"{place}: {self}", *self.settings, options=self.options)


class DivergedError(CpscError):
    """A loss term is no longer finite, or has exploded: a bad point of the search space, not a broken machine."""
