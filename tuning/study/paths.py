"""Paths that a study file names: absolute as soon as it is read, for its trials have working directories of their own."""

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from cpsc.errors import ConfigError
from tuning.study.names import MAX_NAME_BYTES
from tuning.study.nested_keys import copy_nested
from tuning.study.validation import format_value

FILE_SETTINGS = (("noisy_layer", "file"),)
"""Settings of runs that name a file, by section and key."""
INPUTS = (*FILE_SETTINGS, ("teacher", "path"), ("dataset", "path"), ("measure", "inception_weights"))
"""All that name what is read, under ``config`` or beside it."""


def folder_path(text: str, where: str) -> Path:
    """The absolute path of a folder, which need not be there yet; ConfigError, naming `where` it was said, if it is none."""
    try:
        if not text or not text.isprintable() or "://" in text:
            raise RuntimeError("empty, a URI, or with characters that cannot be printed")
        if (longest := max(len(os.fsencode(part)) for part in [*Path(text).parts, ""])) > MAX_NAME_BYTES:
            raise RuntimeError(f"a name of {longest} bytes in it, at most {MAX_NAME_BYTES} are possible")
        return Path(text).expanduser().absolute()
    except RuntimeError as error:
        raise ConfigError(f"{where}: {format_value(text)} is not a path ({error})") from error


def with_absolute_files(config: Mapping[str, Any], space: Mapping[str, Any]) -> dict[str, Any]:
    """``config`` of a study file with absolute paths where runs name files; ConfigError where one is searched, or is no path."""
    for section, key in FILE_SETTINGS:
        if (path := f"{section}.{key}") in space:
            raise ConfigError(f"space.{path}: a file is not searched, name it once, as config.{path}")
    made, by_method = _made_absolute(config, "config"), config.get("by_method")
    if isinstance(by_method, Mapping):
        made["by_method"] = {
            method: _made_absolute(settings, f"config.by_method.{method}") if isinstance(settings, Mapping) else settings
            for method, settings in by_method.items()
        }
    return made


def _made_absolute(settings: Mapping[str, Any], where: str) -> dict[str, Any]:
    made = dict(settings)
    for section, key in FILE_SETTINGS:
        inner = made.get(section)
        if isinstance(inner, Mapping) and isinstance(inner.get(key), str):
            made[section] = {**inner, key: str(folder_path(inner[key], f"{where}.{section}.{key}"))}
    return made


def from_folder(raw: Mapping[str, Any], folder: Path) -> dict[str, Any]:
    """The content of a study file that lies in `folder`, whose relative paths of files to read mean `folder`, as the working
    directory has them.

    One that is not there, but in the working directory, means that. `storage` and `local` stay as they are: records go to the
    working directory, wherever the study lies.
    """
    made = copy_nested(raw)
    config = made.get("config")
    by_method = config.get("by_method") if isinstance(config, dict) else None
    for top in (made, config, *(by_method.values() if isinstance(by_method, dict) else ())):
        for section, key in INPUTS:
            level = top.get(section) if isinstance(top, dict) else None
            if isinstance(level, dict) and isinstance(text := level.get(key), str):
                level[key] = _beside(folder, text)
    return made


def _beside(folder: Path, text: str) -> str:
    """`text` as it is where it is absolute, a URI, or no path at all: that is said where it is read."""
    if not text or not text.isprintable() or "://" in text or text.startswith(("/", "~")):
        return text
    here, working = folder.absolute() / text, Path.cwd()
    try:
        if Path(text).exists() and not here.exists():
            return text
    except OSError:  # a name too long, a folder that must not be entered
        return text
    # Under the working directory without that: the launch may go on on a machine where it lies elsewhere.
    return str(here.relative_to(working) if here.is_relative_to(working) else here)
