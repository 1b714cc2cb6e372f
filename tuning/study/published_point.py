"""Published values of what a study searches: what its config would have without any point, as near as the ranges allow."""

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any

from tuning.study.base_config import BaseConfig, build_config
from tuning.study.distributions import Distribution
from tuning.study.nested_keys import flatten
from tuning.study.unit_interval import position_of, value_at

METHOD_PATH = "method"
"""All that changes what other parameters are published with: presets and ``by_method`` go by it."""


def published_values(settings: BaseConfig, space: Mapping[str, Distribution], method: str | None) -> dict[str, Any]:
    """By path, what the config has without a point, with `method` where one is named.

    A number outside its range is at the range's nearer end. A parameter is left out whose value is none of its options, or
    no number where numbers are searched.
    """
    point = {} if method is None else {METHOD_PATH: method}
    config = dict(flatten(dataclasses.asdict(build_config(settings, point))))
    nearest = {path: _nearest(domain, config.get(path)) for path, domain in space.items()}
    return {path: values[0] for path, values in nearest.items() if values}


def published_by_method(settings: BaseConfig, space: Mapping[str, Distribution]) -> dict[str | None, dict[str, Any]]:
    """`published_values` with each method that is searched; under None, with the study's own."""
    searched = space[METHOD_PATH].arguments if METHOD_PATH in space else ()
    return {method: published_values(settings, space, method) for method in (None, *searched)}


def published_point(settings: BaseConfig, space: Mapping[str, Distribution]) -> dict[str, Any]:
    """A point of the published values; where there is none, of the first option, or the middle of the range."""
    point: dict[str, Any] = {}
    for path in in_order_of_drawing(space):
        domain = space[path]
        if domain.is_active(point):
            published = published_values(settings, space, point.get(METHOD_PATH))
            middle = domain.arguments[0] if domain.sampler == "choice" else value_at(domain, 0.5)
            point[path] = published.get(path, middle)
    return {path: point[path] for path in space if path in point}


def in_order_of_drawing(space: Mapping[str, Distribution]) -> list[str]:
    """The paths of `space`, each behind those that it depends on: the method first, conditional parameters last."""
    return sorted(space, key=lambda path: (bool(space[path].when), path != METHOD_PATH))


def _nearest(domain: Distribution, value: Any) -> Sequence[Any]:
    """The value of `domain` that is nearest to `value`; nothing where they cannot be compared."""
    if domain.sampler == "choice":
        return [option for option in domain.arguments if domain.contains(value) and option == value]
    if isinstance(value, bool) or not isinstance(value, int | float):
        return []
    lower, upper = domain.edges
    within = min(max(value, lower), upper)
    return [within if domain.contains(within) else value_at(domain, position_of(domain, within))]
