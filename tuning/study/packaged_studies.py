"""Studies that come with the package, by name: ``digits`` is search_spaces/digits.yaml, wherever that is installed."""

import re
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from importlib.resources import files
from pathlib import Path
from typing import Any

from cpsc.errors import ConfigError
from tuning.study.near_misses import meant
from tuning.study.yaml_loader import read_mapping

FOLDER = Path(str(files("tuning"))).parent / "search_spaces"
"""Next to `tuning`, both in a checkout and in an installed wheel."""
SCALES = "scales"
"""Folder, next to studies or one level up, of files that set a study's data and budget; see `overrides`."""
_NAME = re.compile(r"[\w-]+(/[\w-]+)*")


@dataclass(frozen=True, kw_only=True)
class PackagedStudy:
    """An entry in the list of studies."""

    name: str
    method: str
    about: str
    """The first line of the file, a comment."""


def packaged_files() -> dict[str, Path]:
    """Files of the packaged studies by name, those in subfolders last. Scales are not studies."""
    found = [path.relative_to(FOLDER) for path in FOLDER.rglob("*.yaml") if path.parent.name != SCALES]
    found.sort(key=lambda path: (len(path.parts), path))
    return {path.with_suffix("").as_posix(): FOLDER / path for path in found}


def find_study(study: Path) -> Path:
    """The file that an argument STUDY means: that file or, for a bare name that is not a file, the packaged study of that name.

    ConfigError if a bare name is neither. A path with a suffix is returned as it is, whether it exists or not.
    """
    name = str(study)
    if not _NAME.fullmatch(name) or _is_there(study):
        return study
    packaged = packaged_files()
    if name not in packaged:
        close = nearest(name, packaged)
        hint = f"did you mean {close}? " if close else ""
        raise ConfigError(f"{name}: neither a file nor a packaged study, {hint}list them with: cpsc-tune studies")
    return packaged[name]


def list_studies() -> list[PackagedStudy]:
    """Every packaged study, as described by its file."""
    return [
        PackagedStudy(name=name, method=_method(read_mapping(file, keys="name, config and space")), about=_first_comment(file))
        for name, file in packaged_files().items()
    ]


def studies_table(studies: list[PackagedStudy]) -> str:
    """One line per study: name, method, description."""
    name_width = max((len(study.name) for study in studies), default=0)
    method_width = max((len(study.method) for study in studies), default=0)
    return "\n".join(f"{study.name:<{name_width}}  {study.method:<{method_width}}  {study.about}" for study in studies)


def _is_there(study: Path) -> bool:
    try:
        return study.exists() and not study.is_dir()
    except OSError:  # a name that is too long, a folder without permission: reported when the file is read
        return True


def nearest(name: str, known: Collection[str]) -> str | None:
    """The known name that was probably meant: a study in a subfolder, or a close match."""
    in_subfolders = [other for other in known if other.rsplit("/", 1)[-1] == name]
    return in_subfolders[0] if in_subfolders else meant(name, known)


def _method(study: Mapping[str, Any]) -> str:
    """The method that a study tunes, or the number of methods that it compares."""
    searched = study["space"].get("method")
    return f"{len(searched['choice'])} methods" if searched else str(study["config"]["method"])


def _first_comment(file: Path) -> str:
    with file.open(encoding="utf-8") as lines:
        return next(lines).removeprefix("#").strip()
