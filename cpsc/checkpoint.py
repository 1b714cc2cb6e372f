"""Checkpoints: written whole or not at all, read without executing anything, errors in one line."""

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
    """Read what `save` wrote, on the CPU, without executing anything in it. `kind` names it in errors.

    CheckpointError where it is missing, of another kind, without one of the entries that it `needs`, or differs from what
    was written by as much as a bit of content.
    """
    if not path.is_file():
        raise CheckpointError(f"{path}: no such {kind} file")
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # torch remarks on the format of what it is about to refuse
            check_archive(path)
            payload = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # a file of another kind fails in any of a dozen ways, none of which tells a user more
        raise CheckpointError(f"{path}: not a readable {kind} file (truncated, corrupt or of another kind)") from error
    if not isinstance(payload, dict):
        raise CheckpointError(f"{path}: not a {kind} file, it holds a {type(payload).__name__}")
    if missing := [name for name in needs if name not in payload]:
        raise CheckpointError(f"{path}: not a {kind} file, {missing[0]!r} is missing")
    return payload


def check_version(payload: dict[str, Any], expected: int, *, path: Path | str, kind: str) -> None:
    """Raise CheckpointError unless `payload` was written in format `expected`."""
    found = payload.get("version")
    if type(found) is not int or found != expected:  # a tensor, say, compares to a tensor
        shown = repr(found) if isinstance(found, int | None) else f"a {type(found).__name__}"
        raise CheckpointError(f"{path}: {kind} format {shown}, this version reads {expected}")


def check_archive(path: Path) -> None:
    """Raise BadZipFile unless all content has the checksum it was written with: torch itself does not compare them."""
    with zipfile.ZipFile(path) as archive:
        if any(entry.compress_type != zipfile.ZIP_STORED for entry in archive.infolist()):
            raise zipfile.BadZipFile("compressed: a small file of another origin could unpack to any size")
        if (damaged := archive.testzip()) is not None:
            raise zipfile.BadZipFile(f"{damaged} is damaged")
