"""Start points of a search, and points of a grid."""

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any

from cpsc.errors import ConfigError
from tuning.study.base_config import BaseConfig, build_config, check_path
from tuning.study.distributions import Distribution
from tuning.study.nested_keys import Point, flatten
from tuning.study.validation import format_value, said_as_text

MAX_GRID = 10_000


def parse_start(raw: Sequence[Mapping[str, Any]], space: Mapping[str, Distribution], settings: BaseConfig) -> list[dict[str, Any]]:
    """The points to try first; parameters that a point leaves out get the value from the study's config."""
    return [parse_point(point, space, settings, where=f"start[{index}]") for index, point in enumerate(raw)]


def parse_point(point: Point, space: Mapping[str, Distribution], settings: BaseConfig, *, where: str) -> dict[str, Any]:
    """`point`, checked and completed with all other parameters that exist for it. ConfigError messages begin with `where`."""
    for path in point:
        if path not in space:
            check_path(path, where=where)
            raise ConfigError(f"{where}.{path}: is not searched, list it under space or set it under config")
    chosen = {path: point[path] for path, domain in space.items() if path in point and not domain.when}
    defaults = dict(flatten(dataclasses.asdict(build_config(settings, _checked(chosen, space, where)))))
    full = {path: point.get(path, defaults.get(path)) for path, domain in space.items() if not domain.when}
    active = [path for path, domain in space.items() if domain.when and domain.is_active(full)]
    full |= {path: point.get(path, defaults.get(path)) for path in active}
    if idle := [path for path in point if path not in full]:
        raise ConfigError(f"{where}.{idle[0]}: the rest of the point does not meet its condition (when), leave it out")
    return _checked(full, space, where)


def _checked(point: dict[str, Any], space: Mapping[str, Distribution], where: str) -> dict[str, Any]:
    for path, value in point.items():
        if not space[path].contains(value):
            rule = said_as_text(value) or f" lies outside {space[path]}, start points must lie inside"
            raise ConfigError(f"{where}.{path}: {format_value(value)}{rule}")
    return point


def grid_points(raw: Sequence[Mapping[str, Any]], space: Mapping[str, Distribution], settings: BaseConfig) -> list[dict[str, Any]]:
    """Every combination of the options of `space`, checked; the last parameter changes fastest.

    If `raw` lists points, only these, combined with all options of the parameters that no point mentions.
    """
    listed = {path for point in raw for path in point}
    points = parse_start(raw, {path: space[path] for path in space if path in listed}, settings) if raw else [{}]
    for path, domain in space.items():
        if path not in listed:
            points = [extended for point in points for extended in _extended(point, path, domain)]
    if len(points) > MAX_GRID:
        raise ConfigError(f"space: the grid has {len(points)} points, at most {MAX_GRID} are allowed")
    for point in points:
        try:
            build_config(settings, point)
        except ConfigError as error:
            raise ConfigError(f"space: the grid's point {format_value(point)} is not allowed: {error}") from error
    return points


def _extended(point: dict[str, Any], path: str, domain: Distribution) -> list[dict[str, Any]]:
    return [point | {path: option} for option in domain.arguments] if domain.is_active(point) else [point]
