"""A method's presets as nested settings: what lies under a user's own."""

from collections.abc import Mapping
from typing import Any

from cpsc.config import DistillConfig
from cpsc.errors import ConfigError
from cpsc.methods import method_class

DEFAULT_METHOD = DistillConfig().method


def preset(name: str | None = None, *, method: str = DEFAULT_METHOD, num_classes: int) -> dict[str, Any]:
    """What preset `name` (default: the method's first) changes of `DistillConfig`, nested: to lay under a user's own settings."""
    declared = method_class(method)
    known = declared.PRESETS
    name = name or next(iter(known))
    if name not in known:
        raise ConfigError(f"preset {name!r}: unknown for method {method}, use one of {', '.join(known)}")
    layers = [*known[name], *(layer for least, layer in declared.BY_CLASSES.get(name, ()) if num_classes >= least)]
    changes: dict[str, Any] = {}
    for layer in layers:
        for key, value in layer.items():
            changes[key] = {**changes.get(key, {}), **value} if isinstance(value, Mapping) else value
    return changes
