"""The number of classes that a study's presets assume: before the teacher's file is read, only some studies state it."""

from collections.abc import Iterator, Mapping
from dataclasses import asdict, replace
from typing import Any

from cpsc.data import DatasetConfig
from cpsc.errors import ConfigError
from cpsc.published import PublishedConfig
from tuning.study.base_config import BaseConfig, build_config
from tuning.study.distributions import Distribution
from tuning.study.nested_keys import flatten
from tuning.study.validation import format_value

ASSUMED = 10


def class_count(stated: Any, dataset: DatasetConfig | None, published: PublishedConfig | None) -> int:
    """The number from `config.num_classes`, the dataset, the teacher, or `ASSUMED`. ConfigError if two of them differ."""
    known = (dataset.num_classes if dataset else None) or _of_teacher(published)
    if stated is None:
        return known or ASSUMED
    if isinstance(stated, bool) or not isinstance(stated, int) or stated < 2:
        raise ConfigError(f"config.num_classes: must be a whole number >= 2, got {format_value(stated)}")
    if known not in (None, stated):
        raise ConfigError(f"config.num_classes: must be {known}, as in the study's dataset or teacher, or left out, got {stated}")
    return stated


def _of_teacher(published: PublishedConfig | None) -> int | None:
    if published is None:
        return None
    return published.num_classes or (len(published.class_names) if published.class_names else None)


def check_class_count(base: BaseConfig, space: Mapping[str, Distribution], num_classes: int) -> None:
    """Raise ConfigError if a published value for the teacher's `num_classes` differs from the one that `base` has taken."""
    for method, path, taken, published in _differences(base, space, num_classes):
        raise ConfigError(
            f"config.num_classes: must be {num_classes}, as many as the teacher has: {path} of method {method} is published as "
            f"{format_value(published)} for {num_classes} classes, and as {format_value(taken)} for the assumed {base.num_classes}"
        )


def _differences(base: BaseConfig, space: Mapping[str, Distribution], num_classes: int) -> Iterator[tuple[str, str, Any, Any]]:
    """(method, path, value taken, value published) of all that the study neither sets nor searches itself."""
    both = base, replace(base, num_classes=num_classes)
    methods = space["method"].edges if "method" in space else (build_config(base, {}).method,)
    for method in methods:
        taken, published = (dict(flatten(asdict(build_config(settings, {"method": method})))) for settings in both)
        for path, value in published.items():
            if value != taken[path] and path not in space:
                yield method, path, taken[path], value
