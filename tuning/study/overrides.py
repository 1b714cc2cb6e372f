"""Overrides: the command line overrides the study file, the file overrides its scale."""

import re
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from typing import Any

from cpsc.errors import ConfigError
from tuning.study.base_config import check_path, users_methods
from tuning.study.nested_keys import flatten, merge, set_path
from tuning.study.packaged_studies import SCALES
from tuning.study.yaml_loader import load_yaml, read_mapping

SCALE, BY_METHOD = "scale", "by_method"
LIMITS = "search.limits."
_FILE_NAME = re.compile(r"\w[\w.-]*", flags=re.ASCII)
_NOT_IN_DISTILL_CONFIG = ("dataset", "teacher", "probe", "examiners", "preset", "num_classes", BY_METHOD)


def parse_assignments(assignments: Sequence[str], *, word: str = "--set") -> dict[str, Any]:
    """``["a.b=1"]`` -> ``{"a.b": 1}``; values are YAML. `word`: the flag or verb before them, for error messages."""
    values = {}
    for assignment in assignments:
        path, equals, text = assignment.partition("=")
        if not equals or not path:
            raise ConfigError(f"{word} {assignment}: must be path=value, e.g. weights.contrast=0.5")
        try:
            values[path.strip()] = load_yaml(text)
        except ConfigError as error:
            said = re.sub(r"^line \d+:? ", "", str(error))
            raise ConfigError(f"{word} {assignment}: {'the value is ' if said.startswith('not ') else ''}{said}") from error
    return values


def apply_scale(raw: Mapping[str, Any], path: Path) -> dict[str, Any]:
    """Merge the study file `raw`, read from `path`, over the scale that it names, a file with dataset, networks and budget.

    Scales are in a folder ``scales`` next to the study or one level up. The scale is appended to the study's name.
    """
    raw = dict(raw)
    if (scale := raw.pop(SCALE, None)) is None:
        return raw
    folders = [folder / SCALES for folder in (path.parent, path.parent.parent)]
    files = [folder / f"{scale}.yaml" for folder in folders]
    if not isinstance(scale, str) or not _FILE_NAME.fullmatch(scale) or not any(file.is_file() for file in files):
        known = sorted({found.stem for folder in folders for found in folder.glob("*.yaml")})
        raise ConfigError(f"scale: must be a file in {SCALES}/ ({', '.join(known) or 'there is none'}), got {scale!r}")
    file = next(file for file in files if file.is_file())
    try:
        under = read_mapping(file, keys="config")
    except ConfigError as error:
        raise ConfigError(f"scale: {file}: {error}") from error
    if isinstance(config := raw.get("config"), Mapping):
        for own, _ in flatten(config):
            _forget_by_method(under, own)
    return merge(under, raw) | {"name": f"{raw.get('name')}-{scale}"}


def refuse_scale(assignments: list[str]) -> None:
    """Raise ConfigError if a scale is set for a recorded study, which already contains the settings of its scale."""
    if any(assignment.partition("=")[0].strip() == SCALE for assignment in assignments):
        raise ConfigError("--set scale: the recorded study already contains its scale, leave it out, or set the keys themselves")


def apply_overrides(raw: Mapping[str, Any], assignments: Mapping[str, Any], *, keys: Collection[str]) -> dict[str, Any]:
    """`raw` with each assignment applied: a path whose first part is one of `keys`, or else a path into `config`.

    A parameter of ``space`` that is set to null is removed from it and from the points under ``start``.
    """
    changed = merge(raw, {})
    for path, value in assignments.items():
        head, _, rest = path.partition(".")
        space = changed.get("space")
        if path.startswith(LIMITS):
            set_path(changed, LIMITS.rstrip("."), {**_limits(changed), path.removeprefix(LIMITS): value})
            continue
        if head == "space" and rest and isinstance(space, dict):
            if value is None:
                _search_no_more(changed, rest)
            else:
                space[rest] = value  # under space, a parameter's dotted path is a single key
            continue
        if isinstance(space, dict) and path.removeprefix("config.") in space:
            raise ConfigError(f"--set {path}: is searched by this study, remove it from space to set a fixed value")
        if head not in keys:
            if head not in _NOT_IN_DISTILL_CONFIG:
                check_path(path, where="--set", methods=users_methods(changed.get("config"), space))
            path = f"config.{path}"
        _forget_by_method(changed, path.removeprefix("config."))
        set_path(changed, path, value)
    return changed


def _limits(raw: Mapping[str, Any]) -> Mapping[str, Any]:
    """The mapping under ``search.limits`` in `raw`, where dotted paths are single keys, as under ``space``."""
    search = raw.get("search")
    limits = search.get("limits") if isinstance(search, Mapping) else None
    return limits if isinstance(limits, Mapping) else {}


def _search_no_more(raw: dict[str, Any], path: str) -> None:
    if path not in raw["space"]:
        raise ConfigError(f"--set space.{path}: is not searched by this study, so it cannot be removed")
    del raw["space"][path]
    if isinstance(points := raw.get("start"), list):
        raw["start"] = [
            {name: value for name, value in point.items() if name != path} if isinstance(point, dict) else point for point in points
        ]


def _forget_by_method(raw: dict[str, Any], path: str) -> None:
    """Remove `path` from the settings for single methods in `raw`, which would override the new value for all methods."""
    *parents, leaf = path.split(".")
    config = raw.get("config")
    by_method = config.get(BY_METHOD) if isinstance(config, dict) else None
    for settings in by_method.values() if isinstance(by_method, dict) else ():
        level = settings
        for parent in parents:
            level = level.get(parent) if isinstance(level, dict) else None
        if isinstance(level, dict):
            level.pop(leaf, None)
