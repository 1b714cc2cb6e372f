"""Adds the settings that a method's class declares to `DistillConfig`."""

from collections.abc import Callable, Iterator
from dataclasses import MISSING, field, fields, is_dataclass, make_dataclass
from keyword import iskeyword
from typing import Any, cast

from cpsc.config import IMAGE_SECTIONS, DistillConfig, LossWeights
from cpsc.errors import ConfigError
from cpsc.methods.base import AbstractMethod


def check(method: type[AbstractMethod]) -> None:
    """Raise ConfigError if a user's class lacks a declaration that every method needs, or has an invalid one."""
    if not getattr(method, "PRESETS", None):
        raise ConfigError("must have PRESETS, its default settings, e.g. {'original': ({'weights': {...}},)}")
    if odd := [term for term in (*method.GENERATOR_TERMS, *method.STUDENT_TERMS) if not _is_name(term)]:
        raise ConfigError(f"GENERATOR_TERMS and STUDENT_TERMS must be tuples of names, got {odd[0]!r} in one")
    taken = {item.name for item in fields(DistillConfig)}
    for name, kind in method.SECTIONS.items():
        if not _is_name(name) or name in taken or hasattr(DistillConfig, name):
            raise ConfigError(f"SECTIONS must have names that DistillConfig does not have, got {name!r}")
        if not (is_dataclass(kind) and kind.__dataclass_params__.frozen and all(map(_has_default, fields(kind)))):  # type: ignore[attr-defined]
            raise ConfigError(f"SECTIONS must be frozen dataclasses with a default for each field, {name} is not")


def extended(
    base: type[DistillConfig], *methods: type[AbstractMethod], reduce: Callable[[DistillConfig], tuple[Any, ...]]
) -> type[DistillConfig]:
    """`base` extended by the terms and sections of `methods`: terms become fields of its weights, sections fields of its own.

    `reduce`: the ``__reduce__`` of its instances, because a class made at runtime cannot be found by its name.
    """
    weights = _extended_weights(base, methods)
    sections = {name: kind for method in methods for name, kind in method.SECTIONS.items()}
    added: list[Any] = [("weights", weights, field(default_factory=weights))]
    added += [(name, kind, field(default_factory=kind)) for name, kind in sections.items()]
    made = make_dataclass(base.__name__, added, bases=(base,), namespace={"__reduce__": reduce}, frozen=True, kw_only=True)
    return cast(type[DistillConfig], made)


def foreign_sections(method: type[AbstractMethod], config: DistillConfig) -> list[str]:
    """The optional sections of `config` that `method` does not have."""
    optional = [*IMAGE_SECTIONS, *_brought_sections(config)]
    return [name for name in optional if name not in method.SYNTHESIS.SECTIONS and name not in method.SECTIONS]


def _brought_sections(config: DistillConfig) -> Iterator[str]:
    shared = {item.name for item in fields(DistillConfig)}
    return (item.name for item in fields(config) if item.name not in shared)


def _extended_weights(base: type[DistillConfig], methods: tuple[type[AbstractMethod], ...]) -> type[LossWeights]:
    weights = type(base().weights)
    known = {item.name for item in fields(weights)}
    brought = sorted({term for method in methods for term in method.TERMS} - known)
    if not brought:
        return weights
    added: list[Any] = [(term, float, field(default=0.0)) for term in brought]
    return make_dataclass(weights.__name__, added, bases=(weights,), frozen=True, kw_only=True)


def _is_name(name: object) -> bool:
    return isinstance(name, str) and name.isidentifier() and not iskeyword(name)


def _has_default(item: Any) -> bool:
    return item.default is not MISSING or item.default_factory is not MISSING
