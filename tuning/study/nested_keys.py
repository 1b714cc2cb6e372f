"""Nested keys of a config, and dotted paths to its leaves."""

from collections.abc import Iterator, Mapping
from typing import Any

from cpsc.errors import ConfigError

Point = Mapping[str, Any]
"""Values by dotted path, e.g. ``{"weights.contrast": 0.5}``."""


def flatten(nested: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    """Leaves of a nested mapping by dotted path."""
    for key, value in nested.items():
        if isinstance(value, Mapping):
            yield from flatten(value, f"{prefix}{key}.")
        else:
            yield f"{prefix}{key}", value


def set_path(nested: dict[str, Any], path: str, value: Any) -> None:
    """Put `value` at the dotted `path`, making the levels in between."""
    *parents, leaf = path.split(".")
    for parent in parents:
        nested = nested.setdefault(parent, {})
        if not isinstance(nested, dict):
            raise ConfigError(f"{path}: {parent} is a value, it has no parameters below it")
    nested[leaf] = value


def copy_nested(nested: Mapping[str, Any]) -> dict[str, Any]:
    """A copy whose levels can be written without touching `nested`."""
    return {key: copy_nested(value) if isinstance(value, Mapping) else value for key, value in nested.items()}


def merge(under: Mapping[str, Any], over: Mapping[str, Any]) -> dict[str, Any]:
    """Both mappings level by level, as a copy of either; where they disagree, `over` wins."""
    merged = copy_nested(under)
    for key, value in over.items():
        below = merged.get(key)
        merged[key] = merge(below if isinstance(below, dict) else {}, value) if isinstance(value, Mapping) else value
    return merged
