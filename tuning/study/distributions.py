"""Distributions of searched parameters: a Ray Tune sampling function, its arguments, and a condition."""

import dataclasses
import math
import sys
from collections.abc import Mapping
from typing import Any

from cpsc.errors import ConfigError
from tuning.study.near_misses import meant
from tuning.study.nested_keys import Point
from tuning.study.validation import format_value, said_as_text

NUM_ARGUMENTS = {"uniform": 2, "loguniform": 2, "quniform": 3, "randint": 2, "lograndint": 2, "qrandint": 3}
INTEGER_SAMPLERS = {"randint", "lograndint", "qrandint"}
UPPER_EXCLUSIVE = {"randint", "lograndint"}
MAX_OPTIONS = 100
"""Most options of a choice: no search can tell more apart, and every pair of options of two parameters is checked at the start."""


@dataclasses.dataclass(frozen=True)
class Distribution:
    """Distribution of one searched parameter: a Ray Tune sampling function and its arguments (for `choice`, the options).

    `when`: the parameter exists only for these values of other searched parameters, by path; if empty, always.
    """

    sampler: str
    arguments: tuple[Any, ...]
    when: Mapping[str, tuple[Any, ...]] = dataclasses.field(default_factory=dict)

    def is_active(self, point: "Point") -> bool:
        """Whether the parameter exists, given the other values of `point`."""
        return all(path in point and point[path] in values for path, values in self.when.items())

    @property
    def edges(self) -> tuple[Any, ...]:
        """The smallest and largest value that can be drawn; for a choice, every option."""
        if self.sampler == "choice":
            return self.arguments
        lower, upper = self.arguments[:2]
        return lower, upper - 1 if self.sampler in UPPER_EXCLUSIVE else upper

    def contains(self, value: Any) -> bool:
        """Whether `value` can be drawn."""
        if self.sampler == "choice":
            return any(value == option and isinstance(value, bool) == isinstance(option, bool) for option in self.arguments)
        kind = int if self.sampler in INTEGER_SAMPLERS else int | float
        if isinstance(value, bool) or not isinstance(value, kind):
            return False
        lower, upper = self.edges
        return bool(lower <= value <= upper) and (len(self.arguments) < 3 or _is_multiple(value, self.arguments[2]))

    def __str__(self) -> str:
        conditions = [f"{path} in {', '.join(map(str, values))}" for path, values in self.when.items()]
        where = f" when {' and '.join(conditions)}" if conditions else ""
        return f"{self.sampler}({', '.join(map(str, self.arguments))}){where}"


def parse_distribution(path: str, spec: Any) -> Distribution:
    """Parse the entry under ``space`` of the parameter at `path`. ConfigError names path, rule and value."""
    where = f"space.{path}"
    samplers = [*NUM_ARGUMENTS, "choice"]
    if isinstance(spec, Mapping) and "when" in spec:
        domain = parse_distribution(path, {key: value for key, value in spec.items() if key != "when"})
        return dataclasses.replace(domain, when=_parse_when(where, spec["when"]))
    if not isinstance(spec, Mapping) or len(spec) != 1:
        raise ConfigError(
            f"{where}: must be one sampling function and its arguments, e.g. {{loguniform: [0.01, 10]}}, got {format_value(spec)}"
        )
    ((sampler, arguments),) = spec.items()
    if sampler not in samplers:
        close = meant(str(sampler), samplers)
        hint = f"did you mean {close}?" if close else f"use one of {', '.join(samplers)}"
        raise ConfigError(f"{where}: unknown sampling function {sampler!r}, {hint}")
    if not isinstance(arguments, list):
        raise ConfigError(f"{where}.{sampler}: must be a list, got {format_value(arguments)}")
    if sampler == "choice":
        if len(arguments) < 2 or any(isinstance(option, list | dict) for option in arguments):
            raise ConfigError(f"{where}.choice: must list at least two plain values, got {format_value(arguments)}")
        if len(arguments) > MAX_OPTIONS:
            raise ConfigError(f"{where}.choice: must list at most {MAX_OPTIONS} values, got {len(arguments)}")
        if twice := [option for index, option in enumerate(arguments) if option in arguments[:index]]:
            raise ConfigError(f"{where}.choice: lists {format_value(twice[0])} twice, or a value equal to it")
        return Distribution(sampler, tuple(arguments))
    return Distribution(sampler, _check_numbers(f"{where}.{sampler}", sampler, arguments))


def _parse_when(where: str, raw: Any) -> dict[str, tuple[Any, ...]]:
    if not isinstance(raw, Mapping) or not raw:
        raise ConfigError(f"{where}.when: must be parameters and their values, e.g. {{method: cpsc}}, got {format_value(raw)}")
    when = {}
    for path, values in raw.items():
        values = values if isinstance(values, list) else [values]
        if not isinstance(path, str) or not values or any(isinstance(value, list | dict) for value in values):
            raise ConfigError(f"{where}.when.{path}: must be a value or a list of values, got {format_value(raw[path])}")
        when[path] = tuple(values)
    return when


def _check_numbers(where: str, sampler: str, arguments: list[Any]) -> tuple[Any, ...]:
    kind = int if sampler in INTEGER_SAMPLERS else int | float
    if len(arguments) != NUM_ARGUMENTS[sampler]:
        raise ConfigError(f"{where}: takes {NUM_ARGUMENTS[sampler]} numbers, got {format_value(arguments)}")
    for value in arguments:
        if isinstance(value, bool) or not isinstance(value, kind) or not abs(value) <= sys.float_info.max:
            rule = "integers" if kind is int else "finite numbers"
            raise ConfigError(f"{where}: takes {rule}, got {format_value(value)}{said_as_text(value)}")
    lower, upper = arguments[:2]
    if not lower < upper:
        raise ConfigError(f"{where}: lower must be below upper, got [{lower}, {upper}]")
    if sampler.startswith("log") and lower <= 0:
        raise ConfigError(f"{where}: lower must be > 0 on a logarithmic scale, got {lower}")
    if len(arguments) == 3 and not 0 < arguments[2] <= upper - lower:
        raise ConfigError(f"{where}: the step must be > 0 and at most {upper - lower}, got {arguments[2]}")
    if len(arguments) == 3 and not (_is_multiple(lower, arguments[2]) and _is_multiple(upper, arguments[2])):
        raise ConfigError(f"{where}: lower and upper must be multiples of the step {arguments[2]}, got [{lower}, {upper}]")
    return tuple(arguments)


def _is_multiple(value: float, step: float) -> bool:
    return math.isclose(value / step, round(value / step))


def examples(domain: Distribution) -> tuple[Any, ...]:
    """The edges and, if fractions can be drawn, a value in between that is not whole; all of the type that is drawn."""
    if domain.sampler in ("uniform", "loguniform"):
        lower, upper = domain.arguments
        return (*map(float, domain.edges), lower + (upper - lower) / math.pi)
    if domain.sampler == "quniform":
        return (*map(float, domain.edges), float(domain.arguments[0] + domain.arguments[2]))
    return domain.edges


def to_tune(space: Mapping[str, Distribution]) -> dict[str, Any]:
    """The same ranges as Ray Tune's domains."""
    from ray import tune

    return {
        path: tune.choice(list(domain.arguments))
        if domain.sampler == "choice"
        else getattr(tune, domain.sampler)(*domain.arguments)
        for path, domain in space.items()
    }
