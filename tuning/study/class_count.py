"""For how many classes a study takes its presets: before its teacher's file is read, only some studies say."""

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
    """What `config.num_classes` states, or what dataset or teacher say, or `ASSUMED`. ConfigError where they contradict it."""
    known = (dataset.num_classes if dataset else None) or _of_teacher(published)
    if stated is None:
        return known or ASSUMED
    if isinstance(stated, bool) or not isinstance(stated, int) or stated < 2:
        raise ConfigError(f"config.num_classes: must be a whole number >= 2, got {format_value(stated)}")
    if known not in (None, stated):
        raise ConfigError(f"config.num_classes: must be left out or {known}, as many as the study names otherwise, got {stated}")
    return stated


def _of_teacher(published: PublishedConfig | None) -> int | None:
    if published is None:
        return None
    return published.num_classes or (len(published.class_names) if published.class_names else None)


def check_class_count(base: BaseConfig, space: Mapping[str, Distribution], num_classes: int) -> None:
    """Raise ConfigError where the teacher's `num_classes` give a published value that the presets of `base` did not know of."""
    for method, path, taken, published in _differences(base, space, num_classes):
        raise ConfigError(
            f"config.num_classes: the teacher has {num_classes} classes, for which {path} of method {method} is published as "
            f"{format_value(published)}, not {format_value(taken)} as for the {base.num_classes} that were taken: "
            f"set it to {num_classes}"
        )


def _differences(base: BaseConfig, space: Mapping[str, Distribution], num_classes: int) -> Iterator[tuple[str, str, Any, Any]]:
    """(method, path, value taken, value published) of all that no setting and no range of the study's own lies over."""
    both = base, replace(base, num_classes=num_classes)
    methods = space["method"].edges if "method" in space else (build_config(base, {}).method,)
    for method in methods:
        taken, published = (dict(flatten(asdict(build_config(settings, {"method": method})))) for settings in both)
        for path, value in published.items():
            if value != taken[path] and path not in space:
                yield method, path, taken[path], value
