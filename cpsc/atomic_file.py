"""Files that are either complete or absent, however the writing process ends."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import NamedTemporaryFile

from cpsc.errors import CheckpointError


@contextmanager
def atomic_path(path: Path) -> Iterator[Path]:
    """Yield a temporary path next to `path`. It replaces `path` if the block succeeds, and is deleted if not.

    Raises CheckpointError if the folder cannot be written.
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
            os.fsync(handle.fileno())  # the content must reach the disk before the rename
        temporary.chmod(0o644)  # temporary files are private, but results are shared like any other file
        temporary.replace(path)
    except OSError as error:
        raise CheckpointError(f"{path}: writing failed ({error.strerror}), the previous file is intact") from error
    finally:
        temporary.unlink(missing_ok=True)
