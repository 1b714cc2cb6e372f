"""Paths into `DistillConfig`: which parameters exist, what a study searches over, how a point becomes a config."""

import dataclasses
import difflib
import itertools
import math
import sys
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from pydantic import TypeAdapter

from cpsc.config import DistillConfig
from cpsc.errors import ConfigError
from cpsc.models import check_arch
from tuning.validation import shown, validate

Point = Mapping[str, Any]
"""Values by dotted path, e.g. ``{"weights.contrast": 0.5}``."""

FIXED_PATHS = {
    "epochs": "it is the budget that pruning divides",
    "diverged_above": "it says which trials have failed",
    "seed": "it would make luck a parameter",
}
NUM_ARGUMENTS = {"uniform": 2, "loguniform": 2, "quniform": 3, "randint": 2, "lograndint": 2, "qrandint": 3}
INTEGER_SAMPLERS = {"randint", "lograndint", "qrandint"}
UPPER_EXCLUSIVE = {"randint", "lograndint"}
MAX_OPTIONS = 100
"""Of a choice: no search tells more apart, and every pair of two parameters' options is checked before a study starts."""

_ADAPTER = TypeAdapter(DistillConfig)


@dataclasses.dataclass(frozen=True)
class Range:
    """One searched parameter: a Ray Tune sampling function and its arguments (for `choice`, the options)."""

    sampler: str
    arguments: tuple[Any, ...]

    @property
    def edges(self) -> tuple[Any, ...]:
        """The extreme values that can be drawn, or every option."""
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
        return f"{self.sampler}({', '.join(map(str, self.arguments))})"


def build_config(base: Mapping[str, Any], point: Point) -> DistillConfig:
    """The config that `base` (nested) and `point` (dotted paths) give. ConfigError names the path that breaks a rule."""
    nested = copy_nested(base)
    for path, value in point.items():
        set_path(nested, path, value)
    config = validate(_ADAPTER, nested, where="config")
    try:
        check_arch(config.student.arch)
    except ConfigError as error:
        raise ConfigError(f"config.student.{error}") from error
    return config


def parameter_paths() -> dict[str, Any]:
    """Every parameter's dotted path with its default."""
    return dict(flatten(dataclasses.asdict(DistillConfig())))


def flatten(nested: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    """Leaves of a nested mapping by dotted path."""
    for key, value in nested.items():
        if isinstance(value, Mapping):
            yield from flatten(value, f"{prefix}{key}.")
        else:
            yield f"{prefix}{key}", value


def set_path(nested: dict[str, Any], path: str, value: Any) -> None:
    """Put `value` at the dotted `path`, making the levels in between."""
    *parents, leaf = path.split(".")
    for parent in parents:
        nested = nested.setdefault(parent, {})
        if not isinstance(nested, dict):
            raise ConfigError(f"{path}: {parent} is a value, it has no parameters below it")
    nested[leaf] = value


def copy_nested(nested: Mapping[str, Any]) -> dict[str, Any]:
    """A copy whose levels can be written without touching `nested`."""
    return {key: copy_nested(value) if isinstance(value, Mapping) else value for key, value in nested.items()}


def merge(under: Mapping[str, Any], over: Mapping[str, Any]) -> dict[str, Any]:
    """Both mappings level by level; where they disagree, `over` wins."""
    merged = copy_nested(under)
    for key, value in over.items():
        below = merged.get(key)
        merged[key] = merge(below, value) if isinstance(below, dict) and isinstance(value, Mapping) else value
    return merged


def check_path(path: str, *, where: str) -> None:
    """Raise ConfigError, with the nearest existing path, unless `path` is a parameter."""
    known = parameter_paths()
    if path in known:
        return
    leaf = path.rsplit(".", 1)[-1]
    by_leaf = [name for name in known if name.rsplit(".", 1)[-1] == leaf]
    close = by_leaf or difflib.get_close_matches(path, known, n=1, cutoff=0.6)
    hint = f"did you mean {close[0]}?" if close else f"parameters are {', '.join(list(known)[:6])}, ..."
    raise ConfigError(f"{where}.{path}: unknown parameter, {hint}")


def parse_space(raw: Mapping[str, Any], base: Mapping[str, Any]) -> dict[str, Range]:
    """The searched ranges, each checked at its edges against the rules of `DistillConfig`."""
    space = {}
    for path, spec in raw.items():
        check_path(path, where="space")
        if path in FIXED_PATHS:
            raise ConfigError(f"space.{path}: cannot be searched, {FIXED_PATHS[path]}; set it under config")
        space[path] = _parse_range(path, spec)
        for value in _examples(space[path]):
            try:
                build_config(base, {path: value})
            except ConfigError as error:
                raise ConfigError(f"space.{path}: {space[path]} leaves what is allowed: {error}") from error
    for (first, one), (second, other) in itertools.combinations(space.items(), 2):
        for pair in itertools.product(_examples(one), _examples(other)):
            try:
                build_config(base, dict(zip((first, second), pair, strict=True)))
            except ConfigError as error:
                raise ConfigError(f"space.{first} with space.{second}: {pair} leaves what is allowed: {error}") from error
    return space


def _examples(domain: Range) -> tuple[Any, ...]:
    """The edges, and a value in between that is not whole where fractions can be drawn."""
    if domain.sampler in ("uniform", "loguniform"):
        lower, upper = domain.arguments
        return (*domain.edges, lower + (upper - lower) / math.pi)
    if domain.sampler == "quniform":
        return (*domain.edges, domain.arguments[0] + domain.arguments[2])
    return domain.edges


def _is_multiple(value: float, step: float) -> bool:
    return math.isclose(value / step, round(value / step))


def parse_start(raw: Sequence[Mapping[str, Any]], space: Mapping[str, Range], base: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Points to try first; a parameter that a point leaves out takes the value of `base`."""
    defaults = parameter_paths() | dict(flatten(base))
    points = []
    for index, point in enumerate(raw):
        where = f"start[{index}]"
        for path in point:
            check_path(path, where=where)
            if path not in space:
                raise ConfigError(f"{where}.{path}: is not searched, list it under space or set it under config")
        full = {path: point.get(path, defaults[path]) for path in space}
        for path, value in full.items():
            if not space[path].contains(value):
                raise ConfigError(f"{where}.{path}: {shown(value)} lies outside {space[path]}, start points must lie inside")
        points.append(full)
    return points


def to_tune(space: Mapping[str, Range]) -> dict[str, Any]:
    """The same ranges as Ray Tune's domains."""
    from ray import tune

    return {
        path: tune.choice(list(domain.arguments))
        if domain.sampler == "choice"
        else getattr(tune, domain.sampler)(*domain.arguments)
        for path, domain in space.items()
    }


def _parse_range(path: str, spec: Any) -> Range:
    where = f"space.{path}"
    samplers = [*NUM_ARGUMENTS, "choice"]
    if not isinstance(spec, Mapping) or len(spec) != 1:
        raise ConfigError(
            f"{where}: must be one sampling function and its arguments, e.g. {{loguniform: [0.01, 10]}}, got {shown(spec)}"
        )
    ((sampler, arguments),) = spec.items()
    if sampler not in samplers:
        close = difflib.get_close_matches(str(sampler), samplers, n=1)
        hint = f"did you mean {close[0]}?" if close else f"use one of {', '.join(samplers)}"
        raise ConfigError(f"{where}: unknown sampling function {sampler!r}, {hint}")
    if not isinstance(arguments, list):
        raise ConfigError(f"{where}.{sampler}: must be a list, got {shown(arguments)}")
    if sampler == "choice":
        if len(arguments) < 2 or any(isinstance(option, list | dict) for option in arguments):
            raise ConfigError(f"{where}.choice: must list at least two plain values, got {shown(arguments)}")
        if len(arguments) > MAX_OPTIONS:
            raise ConfigError(f"{where}.choice: must list at most {MAX_OPTIONS} values, got {len(arguments)}")
        return Range(sampler, tuple(arguments))
    return Range(sampler, _check_numbers(f"{where}.{sampler}", sampler, arguments))


def _check_numbers(where: str, sampler: str, arguments: list[Any]) -> tuple[Any, ...]:
    kind = int if sampler in INTEGER_SAMPLERS else int | float
    if len(arguments) != NUM_ARGUMENTS[sampler]:
        raise ConfigError(f"{where}: takes {NUM_ARGUMENTS[sampler]} numbers, got {shown(arguments)}")
    for value in arguments:
        if isinstance(value, bool) or not isinstance(value, kind) or not abs(value) <= sys.float_info.max:
            raise ConfigError(f"{where}: takes {'integers' if kind is int else 'finite numbers'}, got {shown(value)}")
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
