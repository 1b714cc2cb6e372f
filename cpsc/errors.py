"""Errors, each said in one line: what, where, the rule, and what to do."""


class CpscError(Exception):
    """Base of every error this package raises on purpose; its message is one line for a person."""


class ConfigError(CpscError):
    """A setting breaks a rule; the message names path, value and rule."""


class DataError(CpscError):
    """A dataset or image file is missing, corrupt or of another shape than promised."""


class CheckpointError(CpscError):
    """A checkpoint, teacher bundle or probe file cannot be read or does not fit."""


class DivergedError(CpscError):
    """A loss term stopped being finite, or exploded: a bad point of the search space, not a broken machine."""
