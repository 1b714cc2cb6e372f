"""Nested config keys, and dotted paths to their leaves."""

from collections.abc import Iterator, Mapping
from typing import Any

from cpsc.errors import ConfigError

Point = Mapping[str, Any]
"""Values by dotted path, e.g. ``{"weights.contrast": 0.5}``."""


def flatten(nested: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    """Yields (dotted path, value) for each leaf of a nested mapping."""
    for key, value in nested.items():
        if isinstance(value, Mapping):
            yield from flatten(value, f"{prefix}{key}.")
        else:
            yield f"{prefix}{key}", value


def set_path(nested: dict[str, Any], path: str, value: Any) -> None:
    """Set `value` at the dotted `path`, creating the levels in between. ConfigError if one of them is a value."""
    *parents, leaf = path.split(".")
    for parent in parents:
        nested = nested.setdefault(parent, {})
        if not isinstance(nested, dict):
            raise ConfigError(f"{path}: {parent} is a single value, it has no parameters of its own")
    nested[leaf] = value


def copy_nested(nested: Mapping[str, Any]) -> dict[str, Any]:
    """A copy of all levels, which can be changed without affecting `nested`."""
    return {key: copy_nested(value) if isinstance(value, Mapping) else value for key, value in nested.items()}


def merge(under: Mapping[str, Any], over: Mapping[str, Any]) -> dict[str, Any]:
    """A new mapping with the keys of both, merged level by level; `over` wins."""
    merged = copy_nested(under)
    for key, value in over.items():
        below = merged.get(key)
        merged[key] = merge(below if isinstance(below, dict) else {}, value) if isinstance(value, Mapping) else value
    return merged
