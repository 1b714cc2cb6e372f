"""Configs of runs from nested settings, without the checks of a study's file."""

import typing
from collections.abc import Iterator, Mapping
from dataclasses import is_dataclass
from typing import Any

from cpsc.config import DistillConfig
from cpsc.methods import check_method, config_class
from cpsc.presets import DEFAULT_METHOD, preset


def config_of(
    settings: Mapping[str, Any], point: Mapping[str, Any] | None = None, *, name: str | None = None, num_classes: int = 10
) -> DistillConfig:
    """`settings`, with `point`, by dotted path, over them, over those of the method's preset `name`, by default its first."""
    own = laid(settings, _nested(point or {}))
    method = own.get("method", DEFAULT_METHOD)
    config: DistillConfig = _made(config_class(method), laid(preset(name, method=method, num_classes=num_classes), own))
    check_method(config)
    return config


def flat(nested: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    """Every value, by its dotted path."""
    for key, value in nested.items():
        if isinstance(value, Mapping):
            yield from flat(value, f"{prefix}{key}.")
        else:
            yield f"{prefix}{key}", value


def _nested(point: Mapping[str, Any]) -> dict[str, Any]:
    nested: dict[str, Any] = {}
    for path, value in point.items():
        *above, last = path.split(".")
        level = nested
        for key in above:
            level = level.setdefault(key, {})
        level[last] = value
    return nested


def laid(under: Mapping[str, Any], over: Mapping[str, Any]) -> dict[str, Any]:
    """`over` laid over `under`, section by section."""
    together = dict(under)
    for key, value in over.items():
        below = together.get(key)
        together[key] = laid(below, value) if isinstance(below, Mapping) and isinstance(value, Mapping) else value
    return together


def _made(kind: Any, nested: Mapping[str, Any]) -> Any:
    hints = typing.get_type_hints(kind)
    return kind(**{key: _value(hints[key], value) for key, value in nested.items()})


def _value(kind: Any, value: Any) -> Any:
    if is_dataclass(kind) and isinstance(value, Mapping):
        return _made(kind, value)
    return tuple(value) if isinstance(value, list) else value
