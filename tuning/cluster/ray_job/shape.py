"""Checks content against a shape: the keys that a mapping may have, and the types of their values."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from cpsc.errors import ConfigError
from tuning.cluster.known_names import check_keys
from tuning.study.near_misses import hint

Shape = Any
"""A mapping: only these keys. A list with one shape: a list of such. Or `Texts`, `Quantities`, `Choice`, or a key of `KINDS`."""
KINDS: Mapping[str, tuple[tuple[type, ...], str]] = {
    "text": ((str,), "text"),
    "flag": ((bool,), "true or false"),
    "whole": ((int,), "a whole number"),
    "number": ((int, float), "a number"),
    "quantity": ((int, float, str), "a quantity, e.g. 2, 500m or 16Gi"),
    "open": ((dict,), "a mapping"),
    "list": ((list,), "a list"),
}


@dataclass(frozen=True)
class Texts:
    """A mapping from any keys to text."""


@dataclass(frozen=True)
class Quantities:
    """A mapping from any keys to quantities."""


@dataclass(frozen=True)
class Choice:
    """One of these texts."""

    values: tuple[str, ...]


def check_shape(value: Any, shape: Shape, where: str) -> None:
    """Raise ConfigError for the first part of `value` that does not match `shape`."""
    if isinstance(shape, dict):
        _check_members(value, shape, where)
    elif isinstance(shape, list):
        _check_kind(value, "list", where)
        for index, inner in enumerate(value):
            check_shape(inner, shape[0], f"{where}.{index}")
    elif isinstance(shape, Choice):
        if value not in shape.values:
            raise ConfigError(f"{where}: must be one of {', '.join(shape.values)}, got {value!r}{hint(str(value), shape.values)}")
    elif isinstance(shape, Texts):
        _check_texts(value, where)
    elif isinstance(shape, Quantities):
        _check_kind(value, "open", where)
        for key, inner in value.items():
            _check_kind(inner, "quantity", f"{where}.{key}")
    else:
        _check_kind(value, shape, where)


def without_nulls(value: Any) -> Any:
    """`value` without keys that are null, which the API server treats as absent."""
    if isinstance(value, dict):
        return {key: without_nulls(inner) for key, inner in value.items() if inner is not None}
    return [without_nulls(inner) for inner in value] if isinstance(value, list) else value


def _check_members(value: Any, shape: Mapping[str, Shape], where: str) -> None:
    _check_kind(value, "open", where)
    check_keys(value, shape, where)
    for key, inner in value.items():
        check_shape(inner, shape[key], f"{where}.{key}" if where else key)


def _check_texts(value: Any, where: str) -> None:
    _check_kind(value, "open", where)
    for key, text in value.items():
        if not isinstance(text, str):
            raise ConfigError(f"{where}.{key}: must be text, write it in quotes, got {text!r}")


def _check_kind(value: Any, kind: str, where: str) -> None:
    types, spoken = KINDS[kind]
    if not isinstance(value, types) or (isinstance(value, bool) and bool not in types):
        raise ConfigError(f"{where}: must be {spoken}, got {value!r}")
