"""Rules that settings are checked against on construction; a broken rule gives a one-line error."""

import sys
from dataclasses import fields, is_dataclass
from typing import Any

from cpsc.errors import ConfigError

FORBID_UNKNOWN: dict[str, Any] = {"extra": "forbid"}
"""``__pydantic_config__`` of a settings class: pydantic then rejects unknown keys."""


def require(holds: bool, path: str, value: object, rule: str) -> None:
    """Raise the one-line ConfigError of this package unless `holds`."""
    if not holds:
        raise ConfigError(f"{path} must be {rule}, got {value!r}")


def positive(path: str, value: float) -> None:
    """ConfigError unless `value` is a finite number above 0."""
    require(0 < value <= sys.float_info.max, path, value, "> 0")


def non_negative(path: str, value: float) -> None:
    """ConfigError unless `value` is a finite number, 0 or above it."""
    require(0 <= value <= sys.float_info.max, path, value, ">= 0")


def below_one(path: str, value: float) -> None:
    """ConfigError unless `value` is a decay factor, such as a momentum: at least 0 and below 1."""
    require(0 <= value < 1, path, value, "in [0, 1)")


def at_most(path: str, value: int, limit: int) -> None:
    """ConfigError above `limit`, which is beyond any use: such a value would fail only during the run, e.g. for lack of memory."""
    require(value <= limit, path, value, f"<= {limit}")


def rising_epochs(path: str, epochs: tuple[int, ...]) -> None:
    """ConfigError unless `epochs`, counted from 1, strictly increase."""
    require(list(epochs) == sorted(set(epochs)) and min(epochs, default=1) > 0, path, list(epochs), "rising positive epochs")


def changed_fields(section: Any) -> dict[str, Any]:
    """Fields of a settings object that differ from their defaults; sections are nested dicts."""
    default = type(section)()
    found: dict[str, Any] = {}
    for item in fields(section):
        value = getattr(section, item.name)
        if value != getattr(default, item.name):
            found[item.name] = changed_fields(value) if is_dataclass(value) else value
    return found
