"""Paths into `DistillConfig`: which parameters exist, what a study searches over, how a point becomes a config."""

import dataclasses
import difflib
import functools
import itertools
import math
import sys
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

from pydantic import TypeAdapter, ValidationError

from cpsc.config import DistillConfig
from cpsc.errors import ConfigError
from cpsc.import_path import is_import_path
from cpsc.methods import METHODS, check_method, config_class
from cpsc.models import check_arch
from cpsc.presets import DEFAULT_METHOD, preset
from tuning.study.validation import format_value, said_as_text, validate

Point = Mapping[str, Any]
"""Values by dotted path, e.g. ``{"weights.contrast": 0.5}``."""

FIXED_PATHS = {
    "epochs": "it is the budget that pruning divides",
    "diverged_above": "it says which trials have failed",
}
REPEATED_PATH = "seed"
"""Searched, it would make luck a parameter; listed in a grid, it repeats each of its points."""
NUM_ARGUMENTS = {"uniform": 2, "loguniform": 2, "quniform": 3, "randint": 2, "lograndint": 2, "qrandint": 3}
INTEGER_SAMPLERS = {"randint", "lograndint", "qrandint"}
UPPER_EXCLUSIVE = {"randint", "lograndint"}
MAX_GRID = 10_000
MAX_OPTIONS = 100
"""Of a choice: no search tells more apart, and every pair of two parameters' options is checked before a study starts."""


@dataclasses.dataclass(frozen=True)
class BaseConfig:
    """What a study fixes of `DistillConfig`: its own nested keys over those of the preset, which hangs on the method.

    `by_method`: settings of the study for one method only, over the others. `preset`: None is each method's default.
    """

    own: Mapping[str, Any]
    by_method: Mapping[str, Mapping[str, Any]] = dataclasses.field(default_factory=dict)
    preset: str | None = None
    num_classes: int = 10

    def nested(self, point: "Point") -> dict[str, Any]:
        """The nested keys with `point` laid over them."""
        method = point.get("method", self.own.get("method", DEFAULT_METHOD))
        if not isinstance(method, str):
            raise ConfigError(f"config.method: must be one of {', '.join(METHODS)}, got {format_value(method)}")
        with _told_of("config."):
            under = preset(self.preset, method=method, num_classes=self.num_classes)
        nested = merge(merge(under, self.own), self.by_method.get(method, {}))
        for path, value in point.items():
            set_path(nested, path, value)
        return nested


@dataclasses.dataclass(frozen=True)
class Distribution:
    """One searched parameter: a Ray Tune sampling function and its arguments (for `choice`, the options).

    `when`: the values of other searched parameters with which it exists, by path; empty: always.
    """

    sampler: str
    arguments: tuple[Any, ...]
    when: Mapping[str, tuple[Any, ...]] = dataclasses.field(default_factory=dict)

    def is_active(self, point: "Point") -> bool:
        """Whether the parameter exists beside the other values of `point`."""
        return all(path in point and point[path] in values for path, values in self.when.items())

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
        conditions = [f"{path} in {', '.join(map(str, values))}" for path, values in self.when.items()]
        where = f" when {' and '.join(conditions)}" if conditions else ""
        return f"{self.sampler}({', '.join(map(str, self.arguments))}){where}"


def build_config(settings: BaseConfig, point: Point) -> DistillConfig:
    """The config that `settings` and `point` (dotted paths) give. ConfigError names the path that breaks a rule."""
    nested = settings.nested(point)
    with _told_of("config."):
        adapter = _adapter(nested.get("method", DEFAULT_METHOD))
    config = validate(adapter, nested, where="config")
    with _told_of("config.student."):
        check_arch(config.student.arch)
    with _told_of("config."):
        check_method(config)
    return config


def _adapter(method: str) -> TypeAdapter[DistillConfig]:
    kind: Any = config_class(method)
    return _adapter_of(kind)


@functools.cache
def _adapter_of(kind: Any) -> TypeAdapter[DistillConfig]:
    return TypeAdapter(kind)


@contextmanager
def _told_of(prefix: str) -> Iterator[None]:
    """ConfigErrors from inside, with `prefix` before the path that they begin with."""
    try:
        yield
    except ConfigError as error:
        raise ConfigError(f"{prefix}{error}") from error


def users_methods(config: Any, space: Any = None) -> set[str]:
    """The users' own methods that ``config`` and ``space``, as a study's file has them, name: what these bring are parameters."""
    config, space = (level if isinstance(level, Mapping) else {} for level in (config, space))
    by_method, searched = config.get("by_method"), space.get("method")
    names: list[Any] = [config.get("method"), *(by_method if isinstance(by_method, Mapping) else ())]
    choice = searched.get("choice") if isinstance(searched, Mapping) else None
    return set(filter(is_import_path, [*names, *(choice if isinstance(choice, list) else ())]))


def parameter_paths(methods: Iterable[str] = ()) -> dict[str, Any]:
    """Every parameter's dotted path with its default: those that there always are, and what `methods` bring along."""
    kinds = map(config_class, (DEFAULT_METHOD, *methods))
    return {path: value for kind in kinds for path, value in flatten(dataclasses.asdict(kind()))}


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


def check_path(path: str, *, where: str, methods: Iterable[str] = ()) -> None:
    """Raise ConfigError, with the nearest existing path, unless `path` is a parameter, be it one that `methods` bring along."""
    known = parameter_paths(methods)
    if path in known:
        return
    leaf = path.rsplit(".", 1)[-1]
    by_leaf = [name for name in known if name.rsplit(".", 1)[-1] == leaf]
    close = by_leaf or difflib.get_close_matches(path, known, n=1, cutoff=0.6)
    hint = f"did you mean {close[0]}?" if close else f"parameters are {', '.join(list(known)[:6])}, ..."
    raise ConfigError(f"{where}.{path}: unknown parameter, {hint}")


def check_settings(settings: Mapping[str, Any], *, method: str, where: str, prefix: str = "") -> None:
    """Raise ConfigError where a nested key is no parameter, or its value of another kind; whether they go together is not asked."""
    known = parameter_paths((method,))
    for key, value in settings.items():
        path = f"{prefix}{key}"
        if isinstance(value, Mapping) and any(name.startswith(f"{path}.") for name in known):
            check_settings(value, method=method, where=where, prefix=f"{path}.")
            continue
        check_path(path, where=where, methods=(method,))
        alone: dict[str, Any] = {}
        set_path(alone, path, value)
        try:
            validate(_adapter(method), alone, where=where)
        except ConfigError as error:
            if isinstance(error.__cause__, ValidationError):
                raise


def parse_space(raw: Mapping[str, Any], settings: BaseConfig, *, is_grid: bool = False) -> dict[str, Distribution]:
    """The searched ranges, each checked at its edges against the rules of `DistillConfig`; those with conditions come last."""
    methods = users_methods({**settings.own, "by_method": settings.by_method}, raw)
    space = {path: _parse_parameter(path, spec, methods, is_grid=is_grid) for path, spec in raw.items()}
    space = dict(sorted(space.items(), key=lambda item: bool(item[1].when)))  # what they depend on is drawn before them
    for path, domain in space.items():
        _check_conditions(path, domain, space)
    if is_grid:
        return space  # of which every point is checked, and no other
    for path, domain in space.items():
        for context, value in itertools.product(_contexts(domain), _examples(domain)):
            try:
                build_config(settings, context | {path: value})
            except ConfigError as error:
                raise ConfigError(f"space.{path}: {domain} leaves what is allowed{_beside(context)}: {error}") from error
    for (first, one), (second, other) in itertools.combinations(space.items(), 2):
        for context in _joint_contexts(one, other):
            for pair in itertools.product(_examples(one), _examples(other)):
                point = context | dict(zip((first, second), pair, strict=True))
                if not (one.is_active(point) and other.is_active(point)):
                    continue
                try:
                    build_config(settings, point)
                except ConfigError as error:
                    raise ConfigError(f"space.{first} with space.{second}: {pair} leaves what is allowed: {error}") from error
    return space


def _parse_parameter(path: str, spec: Any, methods: Iterable[str], *, is_grid: bool) -> Distribution:
    check_path(path, where="space", methods=methods)
    if path in FIXED_PATHS:
        raise ConfigError(f"space.{path}: cannot be searched, {FIXED_PATHS[path]}; set it under config")
    if path == REPEATED_PATH and not is_grid:
        raise ConfigError(
            f"space.{path}: cannot be searched, it would make luck a parameter; set it under config, or list it in a grid"
        )
    domain = _parse_range(path, spec)
    if is_grid and domain.sampler != "choice":
        raise ConfigError(f"space.{path}: a grid takes lists, e.g. {{choice: [1, 5]}}, got {domain.sampler}")
    return domain


def _check_conditions(path: str, domain: Distribution, space: Mapping[str, Distribution]) -> None:
    for other, values in domain.when.items():
        if other not in space or space[other].sampler != "choice" or space[other].when:
            raise ConfigError(
                f"space.{path}.when.{other}: must be a parameter that space lists as a choice, without a when of its own"
            )
        if odd := [value for value in values if not space[other].contains(value)]:
            raise ConfigError(
                f"space.{path}.when.{other}: {format_value(odd[0])} is none of {', '.join(map(str, space[other].arguments))}"
            )


def _contexts(domain: Distribution) -> list[dict[str, Any]]:
    """Every combination of other values with which `domain` exists."""
    return [dict(zip(domain.when, values, strict=True)) for values in itertools.product(*domain.when.values())]


def _joint_contexts(one: Distribution, other: Distribution) -> list[dict[str, Any]]:
    pairs = itertools.product(_contexts(one), _contexts(other))
    return [first | second for first, second in pairs if all(second.get(path, value) == value for path, value in first.items())]


def _beside(context: Point) -> str:
    return f" with {', '.join(f'{path} {value}' for path, value in context.items())}" if context else ""


def _examples(domain: Distribution) -> tuple[Any, ...]:
    """The edges, and a value in between that is not whole where fractions can be drawn; of the kind that is drawn."""
    if domain.sampler in ("uniform", "loguniform"):
        lower, upper = domain.arguments
        return (*map(float, domain.edges), lower + (upper - lower) / math.pi)
    if domain.sampler == "quniform":
        return (*map(float, domain.edges), float(domain.arguments[0] + domain.arguments[2]))
    return domain.edges


def _is_multiple(value: float, step: float) -> bool:
    return math.isclose(value / step, round(value / step))


def parse_start(raw: Sequence[Mapping[str, Any]], space: Mapping[str, Distribution], settings: BaseConfig) -> list[dict[str, Any]]:
    """Points to try first; a parameter that a point leaves out takes the value that the study would have without it."""
    points = []
    for index, point in enumerate(raw):
        where = f"start[{index}]"
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
            raise ConfigError(f"{where}.{idle[0]}: does not exist beside the rest of the point, its when says otherwise")
        points.append(_checked(full, space, where))
    return points


def _checked(point: dict[str, Any], space: Mapping[str, Distribution], where: str) -> dict[str, Any]:
    for path, value in point.items():
        if not space[path].contains(value):
            rule = said_as_text(value) or f" lies outside {space[path]}, start points must lie inside"
            raise ConfigError(f"{where}.{path}: {format_value(value)}{rule}")
    return point


def grid_points(raw: Sequence[Mapping[str, Any]], space: Mapping[str, Distribution], settings: BaseConfig) -> list[dict[str, Any]]:
    """Every combination of the options of `space`, the last parameter changing fastest; each is checked.

    Where `raw` lists points, these, with every combination of the parameters that none of them mentions.
    """
    listed = {path for point in raw for path in point}
    points = parse_start(raw, {path: space[path] for path in space if path in listed}, settings) if raw else [{}]
    for path, domain in space.items():
        if path not in listed:
            points = [extended for point in points for extended in _extended(point, path, domain)]
    if len(points) > MAX_GRID:
        raise ConfigError(f"space: a grid of {len(points)} points, at most {MAX_GRID} are run")
    for point in points:
        try:
            build_config(settings, point)
        except ConfigError as error:
            raise ConfigError(f"space: the grid's point {format_value(point)} leaves what is allowed: {error}") from error
    return points


def _extended(point: dict[str, Any], path: str, domain: Distribution) -> list[dict[str, Any]]:
    return [point | {path: option} for option in domain.arguments] if domain.is_active(point) else [point]


def to_tune(space: Mapping[str, Distribution]) -> dict[str, Any]:
    """The same ranges as Ray Tune's domains."""
    from ray import tune

    return {
        path: tune.choice(list(domain.arguments))
        if domain.sampler == "choice"
        else getattr(tune, domain.sampler)(*domain.arguments)
        for path, domain in space.items()
    }


def _parse_range(path: str, spec: Any) -> Distribution:
    where = f"space.{path}"
    samplers = [*NUM_ARGUMENTS, "choice"]
    if isinstance(spec, Mapping) and "when" in spec:
        domain = _parse_range(path, {key: value for key, value in spec.items() if key != "when"})
        return dataclasses.replace(domain, when=_parse_when(where, spec["when"]))
    if not isinstance(spec, Mapping) or len(spec) != 1:
        raise ConfigError(
            f"{where}: must be one sampling function and its arguments, e.g. {{loguniform: [0.01, 10]}}, got {format_value(spec)}"
        )
    ((sampler, arguments),) = spec.items()
    if sampler not in samplers:
        close = difflib.get_close_matches(str(sampler), samplers, n=1)
        hint = f"did you mean {close[0]}?" if close else f"use one of {', '.join(samplers)}"
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
