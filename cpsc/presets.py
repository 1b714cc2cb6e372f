"""A method's presets as nested settings: the defaults under a user's own settings, adapted where the two would conflict."""

from collections.abc import Mapping
from typing import Any

from cpsc.config import DistillConfig, ReplayConfig, ScheduleConfig, StudentConfig
from cpsc.errors import ConfigError
from cpsc.kinds import is_count
from cpsc.methods import Settings, method_class

DEFAULT_METHOD = DistillConfig().method


def preset(name: str | None = None, *, method: str = DEFAULT_METHOD, num_classes: int) -> dict[str, Any]:
    """What preset `name` (default: the method's first) changes in `DistillConfig`, nested: defaults under a user's own settings."""
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


def fitting(under: Settings, own: Settings, *, method: str = DEFAULT_METHOD) -> dict[str, Any]:
    """The preset `under`, with those defaults changed that would be refused together with a user's `own` nested settings.

    The user's own values stay as they are, valid or not, and so does every default that is not refused, so that a run keeps its
    numbers.
    """
    both = {section: {**_section(under, section), **_section(own, section)} for section in {*under, *own}}
    epochs = own.get("epochs", under.get("epochs", DistillConfig.epochs))
    changes = {**_warm_ups(both, epochs), **_rehearsals(both), **method_class(method).fitting_defaults(both)}
    found = dict(under)
    for (section, key), value in changes.items():
        if key not in _section(own, section):
            found[section] = {**_section(found, section), key: value}
    return found


def short_warm_up(epochs: int) -> int:
    """Warm-up epochs of a run that is too short for the usual warm-up: a tenth of its epochs, at least one."""
    return max(1, epochs // 10)


def _section(nested: Settings, name: str) -> Settings:
    section = nested.get(name)
    return section if isinstance(section, Mapping) else {}


def _warm_ups(settings: Mapping[str, Settings], epochs: Any) -> dict[tuple[str, str], int]:
    if not is_count(epochs):
        return {}
    student = settings.get("student", {}).get("warmup_epochs", StudentConfig.warmup_epochs)
    generator = settings.get("schedule", {}).get("generator_warmup_epochs", ScheduleConfig.generator_warmup_epochs)
    found = {}
    if is_count(student) and student > epochs:
        found["student", "warmup_epochs"] = short_warm_up(epochs)
    if is_count(generator) and generator >= epochs:  # the student needs at least one epoch, too
        found["schedule", "generator_warmup_epochs"] = min(short_warm_up(epochs), epochs - 1)
    return found


def _rehearsals(settings: Mapping[str, Settings]) -> dict[tuple[str, str], int]:
    """With rehearsals the memory keeps the new images of every batch."""
    rehearsals = settings.get("replay", {}).get("rehearsals", ReplayConfig.rehearsals)
    return {("replay", "every_epochs"): 0} if is_count(rehearsals) else {}
