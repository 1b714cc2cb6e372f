"""A lock that a process holds on a file; the system releases it however the process ends."""

import contextlib
import errno
import fcntl
import os
import time
from collections.abc import Iterator
from pathlib import Path

from cpsc.errors import ConfigError

NO_LOCKS = (errno.ENOLCK, errno.EOPNOTSUPP, errno.ENOTSUP, errno.ENOSYS, errno.EINVAL)
"""Error codes of a file system without locks, or with an unreachable lock server."""
POLL_S = 0.05


class LockError(ConfigError, OSError):
    """A lock that cannot be acquired. A ConfigError, since records are in the wrong place; an OSError for code that retries."""


class FileLock:
    """The lock on the file at `path`, which is created if missing. `note` tells others what the lock is held for."""

    def __init__(self, path: Path, *, note: str = "") -> None:
        self.path = path
        self._note = note
        self._descriptor: int | None = None

    def try_acquire(self) -> bool:
        """Try to acquire the lock -> whether this process holds it now; False if another process does, or if the file was deleted.

        LockError, with the real reason, if no process could acquire it.
        """
        try:
            descriptor = os.open(self.path, os.O_RDWR | os.O_CREAT, 0o644)
        except OSError as error:
            raise LockError(f"{self.path}: cannot be written ({error.strerror}), make its folder writable") from error
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            if not self._is_at_its_path(descriptor):
                raise BlockingIOError
        except BlockingIOError:
            os.close(descriptor)
            return False
        except OSError as error:
            os.close(descriptor)
            raise LockError(f"{self.path}: {_why(error)}") from error
        self._descriptor = descriptor
        self._write_note(descriptor)
        return True

    def acquire(self, timeout_s: float) -> bool:
        """The same, but wait up to `timeout_s` seconds for another process to release it."""
        deadline = time.monotonic() + timeout_s
        while not self.try_acquire():
            if time.monotonic() >= deadline:
                return False
            time.sleep(POLL_S)
        return True

    def release(self) -> None:
        """Release the lock."""
        if self._descriptor is not None:
            os.close(self._descriptor)
            self._descriptor = None

    def is_held(self) -> bool:
        """Whether any process, this one included, holds the lock. False if the file is missing or unreadable."""
        try:
            descriptor = os.open(self.path, os.O_RDONLY)
        except OSError:
            return False
        try:
            fcntl.flock(descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB)
        except BlockingIOError:
            return True
        except OSError:
            return False
        finally:
            os.close(descriptor)
        return False

    def note(self) -> str:
        """The note of its current or last holder; empty if there is none."""
        try:
            return self.path.read_text(encoding="utf-8", errors="replace")[:100]
        except OSError:
            return ""

    @contextlib.contextmanager
    def held(self, timeout_s: float) -> Iterator[None]:
        """Hold the lock for the length of the block. LockError if another process does not release it in time."""
        if not self.acquire(timeout_s):
            raise LockError(f"{self.path}: another process has held this lock for {timeout_s:.0f} s ({self.note()}); wait for it")
        try:
            yield
        finally:
            self.release()

    def _is_at_its_path(self, descriptor: int) -> bool:
        """Whether the opened file is still the one at `path`: its folder may have been deleted in between."""
        try:
            return os.path.samestat(os.fstat(descriptor), self.path.stat())
        except FileNotFoundError:
            return False

    def _write_note(self, descriptor: int) -> None:
        with contextlib.suppress(OSError):  # a full disk: the lock holds without a note
            os.ftruncate(descriptor, 0)
            os.pwrite(descriptor, f"process {os.getpid()}{f', {self._note}' if self._note else ''}".encode(), 0)


def _why(error: OSError) -> str:
    """Why a lock that nobody holds cannot be acquired."""
    if error.errno in NO_LOCKS:
        return (
            f"this file system does not support locks ({error.strerror}), so two processes could drive one launch; "
            "keep the records on a local disk: --set local=FOLDER"
        )
    return f"cannot be locked ({error.strerror})"
