"""Base config of a study: the settings it fixes, how a point becomes a `DistillConfig`, and which parameters exist."""

import dataclasses
import functools
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from pydantic import TypeAdapter, ValidationError

from cpsc.config import DistillConfig
from cpsc.errors import ConfigError
from cpsc.import_path import is_import_path
from cpsc.methods import METHODS, check_method, config_class
from cpsc.models import check_arch
from cpsc.presets import DEFAULT_METHOD, fitting, preset
from tuning.study.near_misses import meant
from tuning.study.nested_keys import Point, flatten, merge, set_path
from tuning.study.validation import format_value, validate


@dataclasses.dataclass(frozen=True)
class BaseConfig:
    """The settings of `DistillConfig` that a study fixes: its own nested keys, over those of its method's preset.

    `by_method`: settings for single methods, which take precedence over `own`. `preset`: None means each method's default.
    """

    own: Mapping[str, Any]
    by_method: Mapping[str, Mapping[str, Any]] = dataclasses.field(default_factory=dict)
    preset: str | None = None
    num_classes: int = 10

    def nested(self, point: "Point") -> dict[str, Any]:
        """The nested keys, overridden by `point`; from the preset, only what fits them: see `cpsc.presets.fitting`."""
        method = point.get("method", self.own.get("method", DEFAULT_METHOD))
        if not isinstance(method, str):
            raise ConfigError(f"config.method: must be one of {', '.join(METHODS)}, got {format_value(method)}")
        said = merge(self.own, self.by_method.get(method, {}))
        for path, value in point.items():
            set_path(said, path, value)
        with told_of("config."):
            under = preset(self.preset, method=method, num_classes=self.num_classes)
            return merge(fitting(under, said, method=method), said)


def build_config(settings: BaseConfig, point: Point) -> DistillConfig:
    """Build the config from `settings` and `point` (values by dotted path). ConfigError names the path that breaks a rule."""
    nested = settings.nested(point)
    with told_of("config."):
        adapter = _adapter(nested.get("method", DEFAULT_METHOD))
    config = validate(adapter, nested, where="config")
    with told_of("config.student."):
        check_arch(config.student.arch)
    with told_of("config."):
        check_method(config)
    return config


def _adapter(method: str) -> TypeAdapter[DistillConfig]:
    kind: Any = config_class(method)
    return _adapter_of(kind)


@functools.cache
def _adapter_of(kind: Any) -> TypeAdapter[DistillConfig]:
    return TypeAdapter(kind)


@contextmanager
def told_of(prefix: str) -> Iterator[None]:
    """Put `prefix` in front of the message, which begins with a path, of any ConfigError from the block."""
    try:
        yield
    except ConfigError as error:
        raise ConfigError(f"{prefix}{error}") from error


def users_methods(config: Any, space: Any = None) -> set[str]:
    """Import paths of users' own methods in ``config`` and ``space`` of a study file; their settings are parameters, too."""
    config, space = (level if isinstance(level, Mapping) else {} for level in (config, space))
    by_method, searched = config.get("by_method"), space.get("method")
    names: list[Any] = [config.get("method"), *(by_method if isinstance(by_method, Mapping) else ())]
    choice = searched.get("choice") if isinstance(searched, Mapping) else None
    return set(filter(is_import_path, [*names, *(choice if isinstance(choice, list) else ())]))


def parameter_paths(methods: Iterable[str] = ()) -> dict[str, Any]:
    """Defaults by dotted path: of all built-in parameters, and of those that the user-defined `methods` add."""
    kinds = map(config_class, (DEFAULT_METHOD, *methods))
    return {path: value for kind in kinds for path, value in flatten(dataclasses.asdict(kind()))}


def check_path(path: str, *, where: str, methods: Iterable[str] = ()) -> None:
    """Raise ConfigError, with the closest existing path, unless `path` is a parameter, built in or added by `methods`."""
    known = parameter_paths(methods)
    if path in known:
        return
    leaf = path.rsplit(".", 1)[-1]
    by_leaf = [name for name in known if name.rsplit(".", 1)[-1] == leaf]
    close = by_leaf[0] if by_leaf else meant(path, known)
    hint = f"did you mean {close}?" if close else f"parameters are {', '.join(list(known)[:6])}, ..."
    raise ConfigError(f"{where}.{path}: unknown parameter, {hint}")


def check_settings(settings: Mapping[str, Any], *, method: str, where: str, prefix: str = "") -> None:
    """Raise ConfigError if a nested key is not a parameter or its value has the wrong type. Combinations are not checked."""
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
