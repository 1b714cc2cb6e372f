"""Checkpoints: written completely or not at all, read without executing anything, with one-line errors."""

import warnings
import zipfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch

from cpsc.atomic_file import atomic_path
from cpsc.errors import CheckpointError


def save(payload: dict[str, Any], path: Path) -> None:
    """Write tensors and plain values to `path`, atomically."""
    with atomic_path(path) as temporary:
        torch.save(payload, temporary)


def load(path: Path, *, kind: str, needs: Sequence[str] = ()) -> dict[str, Any]:
    """Read what `save` wrote, on the CPU, without executing anything in it. `kind`: what errors call the file.

    CheckpointError if it is missing, of another kind, lacks one of the entries in `needs`, or if even one bit of its content has
    changed since it was written.
    """
    if not path.is_file():
        raise CheckpointError(f"{path}: no such {kind} file")
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # torch warns about the format of files that it then refuses
            check_archive(path)
            payload = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # files of other kinds fail in many ways, none of which helps a user
        raise CheckpointError(f"{path}: not a readable {kind} file (truncated, corrupt or of another kind)") from error
    if not isinstance(payload, dict):
        raise CheckpointError(f"{path}: not a {kind} file, it holds a {type(payload).__name__}")
    if missing := [name for name in needs if name not in payload]:
        raise CheckpointError(f"{path}: not a {kind} file, {missing[0]!r} is missing")
    return payload


def load_fields(path: Path, names: Sequence[str], *, version: int, kind: str) -> dict[str, Any]:
    """The entries `names` of a file that was written in format `version`; CheckpointError as in `load` and `check_version`."""
    payload = load(path, kind=kind, needs=names)
    check_version(payload, version, path=path, kind=kind)
    return {name: payload[name] for name in names}


def check_version(payload: dict[str, Any], expected: int, *, path: Path | str, kind: str) -> None:
    """Raise CheckpointError unless `payload` was written in format `expected`."""
    found = payload.get("version")
    if type(found) is not int or found != expected:  # the comparison of a tensor, for example, is a tensor
        shown = repr(found) if isinstance(found, int | None) else f"a {type(found).__name__}"
        raise CheckpointError(f"{path}: {kind} has format {shown}, but this version reads format {expected}")


def check_archive(path: Path) -> None:
    """Raise BadZipFile unless all content matches its checksums, which torch itself does not compare."""
    with zipfile.ZipFile(path) as archive:
        if any(entry.compress_type != zipfile.ZIP_STORED for entry in archive.infolist()):
            raise zipfile.BadZipFile("compressed: a small file from elsewhere could unpack to any size")
        if (damaged := archive.testzip()) is not None:
            raise zipfile.BadZipFile(f"{damaged} is damaged")
