"""Overrides: the command line over the file, the file over the scale that it names."""

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
    """``["a.b=1"]`` -> ``{"a.b": 1}``; values are YAML. `word`: what stands before each on the command line."""
    values = {}
    for assignment in assignments:
        path, equals, text = assignment.partition("=")
        if not equals or not path:
            raise ConfigError(f"{word} {assignment}: must read path=value, e.g. weights.contrast=0.5")
        try:
            values[path.strip()] = load_yaml(text)
        except ConfigError as error:
            said = re.sub(r"^line \d+:? ", "", str(error))
            raise ConfigError(f"{word} {assignment}: {'the value is ' if said.startswith('not ') else ''}{said}") from error
    return values


def apply_scale(raw: Mapping[str, Any], path: Path) -> dict[str, Any]:
    """The study file `raw`, read from `path`, over the scale that it names: a file that says dataset, networks and budget.

    Scales lie in a folder ``scales`` beside the study or above it. The study is then called after both.
    """
    raw = dict(raw)
    if (scale := raw.pop(SCALE, None)) is None:
        return raw
    folders = [folder / SCALES for folder in (path.parent, path.parent.parent)]
    files = [folder / f"{scale}.yaml" for folder in folders]
    if not isinstance(scale, str) or not _FILE_NAME.fullmatch(scale) or not any(file.is_file() for file in files):
        known = sorted({found.stem for folder in folders for found in folder.glob("*.yaml")})
        raise ConfigError(f"scale: must be a file in {SCALES}/, {', '.join(known) or 'there is none'}, got {scale!r}")
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
    """Raise ConfigError where a scale is named for a study that is recorded, and lies over whatever a scale says."""
    if any(assignment.partition("=")[0].strip() == SCALE for assignment in assignments):
        raise ConfigError("--set scale: the recorded study holds what its scale said, leave it out, or set the keys themselves")


def apply_overrides(raw: Mapping[str, Any], assignments: Mapping[str, Any], *, keys: Collection[str]) -> dict[str, Any]:
    """`raw` with each assignment applied: a path into the file, whose first level is `keys`, or, for short, into its `config`.

    A parameter of ``space`` that is set to null is taken out of it, and out of the points under ``start``.
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
                space[rest] = value  # a parameter's path is one key there
            continue
        if isinstance(space, dict) and path.removeprefix("config.") in space:
            raise ConfigError(f"--set {path}: is searched by this study, remove it from space to fix it")
        if head not in keys:
            if head not in _NOT_IN_DISTILL_CONFIG:
                check_path(path, where="--set", methods=users_methods(changed.get("config"), space))
            path = f"config.{path}"
        _forget_by_method(changed, path.removeprefix("config."))
        set_path(changed, path, value)
    return changed


def _limits(raw: Mapping[str, Any]) -> Mapping[str, Any]:
    """What `raw` has under ``search.limits``, whose keys are paths as those of ``space`` are."""
    search = raw.get("search")
    limits = search.get("limits") if isinstance(search, Mapping) else None
    return limits if isinstance(limits, Mapping) else {}


def _search_no_more(raw: dict[str, Any], path: str) -> None:
    if path not in raw["space"]:
        raise ConfigError(f"--set space.{path}: is not searched by this study, so it cannot be taken out")
    del raw["space"][path]
    if isinstance(points := raw.get("start"), list):
        raw["start"] = [
            {name: value for name, value in point.items() if name != path} if isinstance(point, dict) else point for point in points
        ]


def _forget_by_method(raw: dict[str, Any], path: str) -> None:
    """Take `path` out of what `raw` sets for single methods, which would lie over what is said now for all of them."""
    *parents, leaf = path.split(".")
    config = raw.get("config")
    by_method = config.get(BY_METHOD) if isinstance(config, dict) else None
    for settings in by_method.values() if isinstance(by_method, dict) else ():
        level = settings
        for parent in parents:
            level = level.get(parent) if isinstance(level, dict) else None
        if isinstance(level, dict):
            level.pop(leaf, None)
