"""Paths in a study file, made absolute as soon as it is read: trials have their own working directories."""

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from cpsc.errors import ConfigError
from tuning.study.names import MAX_NAME_BYTES
from tuning.study.nested_keys import copy_nested
from tuning.study.validation import format_value

FILE_SETTINGS = (("noisy_layer", "file"),)
"""Settings of runs that are files, as (section, key)."""
INPUTS = (*FILE_SETTINGS, ("teacher", "path"), ("dataset", "path"), ("measure", "inception_weights"))
"""All settings that are input files or folders, under ``config`` or at the top level."""


def folder_path(text: str, where: str) -> Path:
    """The absolute path of a folder, which need not exist yet. ConfigError, beginning with `where`, if it is not a path."""
    try:
        if not text or not text.isprintable() or "://" in text:
            raise RuntimeError("it is empty, a URI, or has unprintable characters")
        if (longest := max(len(os.fsencode(part)) for part in [*Path(text).parts, ""])) > MAX_NAME_BYTES:
            raise RuntimeError(f"a name in it has {longest} bytes, at most {MAX_NAME_BYTES} are possible")
        return Path(text).expanduser().absolute()
    except RuntimeError as error:
        raise ConfigError(f"{where}: {format_value(text)} is not a path ({error})") from error


def with_absolute_files(config: Mapping[str, Any], space: Mapping[str, Any]) -> dict[str, Any]:
    """``config`` of a study file with the runs' files as absolute paths. ConfigError if one is searched or is not a path."""
    for section, key in FILE_SETTINGS:
        if (path := f"{section}.{key}") in space:
            raise ConfigError(f"space.{path}: a file cannot be searched, set it as config.{path}")
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
    """The content of a study file in `folder`, with the relative paths of its input files rewritten for the working directory.

    They are relative to `folder`; a file that exists only in the working directory is found there, too. `storage` and `local`
    stay as they are: records go to the working directory, wherever the study is.
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
    """`text` unchanged if it is absolute, a URI, or not a path, which is reported when it is read."""
    if not text or not text.isprintable() or "://" in text or text.startswith(("/", "~")):
        return text
    here, working = folder.absolute() / text, Path.cwd()
    try:
        if Path(text).exists() and not here.exists():
            return text
    except OSError:  # a name that is too long, a folder without permission
        return text
    # Relative to the working directory if it is below: the launch may continue on a machine where that is elsewhere.
    return path_from(working, here)


def path_from(folder: Path, file: Path) -> str:
    """The path of `file` as seen from `folder`: relative if it is inside, so that both can be moved together."""
    folder, file = folder.absolute(), file.absolute()
    return file.relative_to(folder).as_posix() if file.is_relative_to(folder) else str(file)
