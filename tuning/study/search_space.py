"""The search space of a study, checked at its edges."""

import itertools
from collections.abc import Iterable, Mapping
from typing import Any

from cpsc.errors import ConfigError
from tuning.study.base_config import BaseConfig, build_config, check_path, users_methods
from tuning.study.distributions import Distribution, examples, parse_distribution
from tuning.study.nested_keys import Point
from tuning.study.validation import format_value

FIXED_PATHS = {
    "epochs": "it is the budget that pruning divides",
    "diverged_above": "it decides which trials count as diverged",
}
REPEATED_PATH = "seed"
"""A search over it would tune luck; listed in a grid, it repeats each point."""


def parse_space(raw: Mapping[str, Any], settings: BaseConfig, *, is_grid: bool = False) -> dict[str, Distribution]:
    """The searched ranges, checked at their edges against the rules of `DistillConfig`; those with conditions come last."""
    methods = users_methods({**settings.own, "by_method": settings.by_method}, raw)
    space = {path: _parse_parameter(path, spec, methods, is_grid=is_grid) for path, spec in raw.items()}
    space = dict(sorted(space.items(), key=lambda item: bool(item[1].when)))  # drawn after what they depend on
    for path, domain in space.items():
        _check_conditions(path, domain, space)
    if is_grid:
        return space  # its points are checked one by one
    for path, domain in space.items():
        for context, value in itertools.product(_contexts(domain), examples(domain)):
            try:
                build_config(settings, context | {path: value})
            except ConfigError as error:
                raise ConfigError(f"space.{path}: {domain} has a value that is not allowed{_beside(context)}: {error}") from error
    for (first, one), (second, other) in itertools.combinations(space.items(), 2):
        for context in _joint_contexts(one, other):
            for pair in itertools.product(examples(one), examples(other)):
                point = context | dict(zip((first, second), pair, strict=True))
                if not (one.is_active(point) and other.is_active(point)):
                    continue
                try:
                    build_config(settings, point)
                except ConfigError as error:
                    raise ConfigError(f"space.{first} with space.{second}: {pair} is not allowed: {error}") from error
    return space


def _parse_parameter(path: str, spec: Any, methods: Iterable[str], *, is_grid: bool) -> Distribution:
    check_path(path, where="space", methods=methods)
    if path in FIXED_PATHS:
        raise ConfigError(f"space.{path}: cannot be searched, {FIXED_PATHS[path]}; set it under config")
    if path == REPEATED_PATH and not is_grid:
        raise ConfigError(f"space.{path}: cannot be searched, that would tune luck; set it under config, or list it in a grid")
    domain = parse_distribution(path, spec)
    if is_grid and domain.sampler != "choice":
        raise ConfigError(f"space.{path}: must be a list with sampler grid, e.g. {{choice: [1, 5]}}, got {domain.sampler}")
    return domain


def _check_conditions(path: str, domain: Distribution, space: Mapping[str, Distribution]) -> None:
    for other, values in domain.when.items():
        if other not in space or space[other].sampler != "choice" or space[other].when:
            raise ConfigError(
                f"space.{path}.when.{other}: must be a parameter that space lists as a choice, without a when of its own"
            )
        if odd := [value for value in values if not space[other].contains(value)]:
            raise ConfigError(
                f"space.{path}.when.{other}: {format_value(odd[0])} is not one of {', '.join(map(str, space[other].arguments))}"
            )


def _contexts(domain: Distribution) -> list[dict[str, Any]]:
    """Every combination of other parameters' values for which `domain` exists."""
    return [dict(zip(domain.when, values, strict=True)) for values in itertools.product(*domain.when.values())]


def _joint_contexts(one: Distribution, other: Distribution) -> list[dict[str, Any]]:
    pairs = itertools.product(_contexts(one), _contexts(other))
    return [first | second for first, second in pairs if all(second.get(path, value) == value for path, value in first.items())]


def _beside(context: Point) -> str:
    return f" with {', '.join(f'{path} {value}' for path, value in context.items())}" if context else ""
