"""Paths that a study file names: absolute as soon as it is read, for its trials have working directories of their own."""

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from cpsc.errors import ConfigError
from tuning.study.names import MAX_NAME_BYTES
from tuning.study.validation import format_value

FILE_SETTINGS = (("noisy_layer", "file"),)
"""Settings of runs that name a file, by section and key."""


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
