"""Published values of the searched parameters: those of the config without any point, as close as the ranges allow."""

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any

from tuning.study.base_config import BaseConfig, build_config
from tuning.study.distributions import Distribution
from tuning.study.nested_keys import flatten
from tuning.study.unit_interval import position_of, value_at

METHOD_PATH = "method"
"""The only parameter that changes the published values of others: presets and ``by_method`` depend on it."""


def published_values(settings: BaseConfig, space: Mapping[str, Distribution], method: str | None) -> dict[str, Any]:
    """The config's values without a point, by path; with `method` if it is given.

    A number outside its range is moved to the nearer end. A parameter is left out if its value is not among its options, or is
    not a number where numbers are searched.
    """
    point = {} if method is None else {METHOD_PATH: method}
    config = dict(flatten(dataclasses.asdict(build_config(settings, point))))
    nearest = {path: _nearest(domain, config.get(path)) for path, domain in space.items()}
    return {path: values[0] for path, values in nearest.items() if values}


def published_by_method(settings: BaseConfig, space: Mapping[str, Distribution]) -> dict[str | None, dict[str, Any]]:
    """`published_values` for each searched method, and under None for the study's own method."""
    searched = space[METHOD_PATH].arguments if METHOD_PATH in space else ()
    return {method: published_values(settings, space, method) for method in (None, *searched)}


def published_point(settings: BaseConfig, space: Mapping[str, Distribution]) -> dict[str, Any]:
    """A point with the published values; without one, the first option or the middle of the range is used."""
    point: dict[str, Any] = {}
    for path in in_order_of_drawing(space):
        domain = space[path]
        if domain.is_active(point):
            published = published_values(settings, space, point.get(METHOD_PATH))
            middle = domain.arguments[0] if domain.sampler == "choice" else value_at(domain, 0.5)
            point[path] = published.get(path, middle)
    return {path: point[path] for path in space if path in point}


def in_order_of_drawing(space: Mapping[str, Distribution]) -> list[str]:
    """The paths of `space`, each after those that it depends on: the method first, conditional parameters last."""
    return sorted(space, key=lambda path: (bool(space[path].when), path != METHOD_PATH))


def _nearest(domain: Distribution, value: Any) -> Sequence[Any]:
    """The value of `domain` that is closest to `value`; empty if they cannot be compared."""
    if domain.sampler == "choice":
        return [option for option in domain.arguments if domain.contains(value) and option == value]
    if isinstance(value, bool) or not isinstance(value, int | float):
        return []
    lower, upper = domain.edges
    within = min(max(value, lower), upper)
    return [within if domain.contains(within) else value_at(domain, position_of(domain, within))]
