"""Files that are whole or absent: atomic writes, reads that execute nothing, errors in one line."""

import os
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import NamedTemporaryFile
from typing import Any

import torch

from cpsc.errors import CheckpointError


@contextmanager
def atomic_path(path: Path) -> Iterator[Path]:
    """Yields a temporary path beside `path`; it replaces `path` when the block ends well, and vanishes when not.

    Raises CheckpointError where the folder cannot be written.
    """
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with NamedTemporaryFile(dir=path.parent, prefix=f".{path.name}.", suffix=path.suffix, delete=False) as handle:
            temporary = Path(handle.name)
    except OSError as error:
        raise CheckpointError(f"{path}: cannot be written ({error.strerror}), choose a writable folder") from error
    try:
        yield temporary
        with temporary.open("rb") as handle:
            os.fsync(handle.fileno())  # the rename must not reach the disk before the content
        temporary.chmod(0o644)  # temporary files are private; results are shared like any other file
        temporary.replace(path)
    except OSError as error:
        raise CheckpointError(f"{path}: writing failed ({error.strerror}), what was there before is intact") from error
    finally:
        temporary.unlink(missing_ok=True)


def save(payload: dict[str, Any], path: Path) -> None:
    """Write tensors and plain values to `path`, atomically."""
    with atomic_path(path) as temporary:
        torch.save(payload, temporary)


def load(path: Path, *, kind: str) -> dict[str, Any]:
    """Read what `save` wrote, on the CPU, without executing anything in it. `kind` names it in errors."""
    if not path.is_file():
        raise CheckpointError(f"{path}: no such {kind} file")
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # torch remarks on the format of what it is about to refuse
            payload = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # a file of another kind fails in any of a dozen ways, none of which tells a user more
        raise CheckpointError(f"{path}: not a readable {kind} file (truncated, corrupt or of another kind)") from error
    if not isinstance(payload, dict):
        raise CheckpointError(f"{path}: not a {kind} file, it holds a {type(payload).__name__}")
    return payload


def check_version(payload: dict[str, Any], expected: int, *, path: Path | str, kind: str) -> None:
    """Raise CheckpointError unless `payload` was written in format `expected`."""
    found = payload.get("version")
    if found != expected:
        raise CheckpointError(f"{path}: {kind} format {found!r}, this version reads {expected}")
