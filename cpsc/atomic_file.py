"""Files that are whole or absent, however their writer ends."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import NamedTemporaryFile

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
