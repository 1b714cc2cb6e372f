"""A lock that a process holds on a file: the system releases it however that process ends."""

import contextlib
import errno
import fcntl
import os
import time
from collections.abc import Iterator
from pathlib import Path

from cpsc.errors import ConfigError

NO_LOCKS = (errno.ENOLCK, errno.EOPNOTSUPP, errno.ENOTSUP, errno.ENOSYS, errno.EINVAL)
"""What a file system that has no locks, or whose lock server is away, answers."""
POLL_S = 0.05


class LockError(ConfigError, OSError):
    """A lock that cannot be had: for a user the wrong place for records, for whoever tries again a failure like others."""


class FileLock:
    """The lock on the file at `path`, which is made where it is missing; `note` tells others what it is held for."""

    def __init__(self, path: Path, *, note: str = "") -> None:
        self.path = path
        self._note = note
        self._descriptor: int | None = None

    def try_acquire(self) -> bool:
        """Whether this process holds the lock now; False while another one does, or where the file has gone meanwhile.

        LockError, with the true reason, where nobody can hold it.
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
        """The same, but wait so long for another process to release it."""
        deadline = time.monotonic() + timeout_s
        while not self.try_acquire():
            if time.monotonic() >= deadline:
                return False
            time.sleep(POLL_S)
        return True

    def release(self) -> None:
        """Let another process hold it."""
        if self._descriptor is not None:
            os.close(self._descriptor)
            self._descriptor = None

    def is_held(self) -> bool:
        """Whether anybody holds it now: this process counts, too. False where the file is not there, or cannot be looked at."""
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
        """What its holder, or the last one, has left a note of; empty where there is none."""
        try:
            return self.path.read_text(encoding="utf-8", errors="replace")[:100]
        except OSError:
            return ""

    @contextlib.contextmanager
    def held(self, timeout_s: float) -> Iterator[None]:
        """Holds the lock for the length of the block. LockError where another process does not release it in time."""
        if not self.acquire(timeout_s):
            raise LockError(f"{self.path}: another process has held this lock for {timeout_s:.0f} s ({self.note()}); wait for it")
        try:
            yield
        finally:
            self.release()

    def _is_at_its_path(self, descriptor: int) -> bool:
        """Whether the file that was opened is the one that others will open: its folder may have been cleared away in between."""
        try:
            return os.path.samestat(os.fstat(descriptor), self.path.stat())
        except FileNotFoundError:
            return False

    def _write_note(self, descriptor: int) -> None:
        with contextlib.suppress(OSError):  # a full disk: the lock holds without words
            os.ftruncate(descriptor, 0)
            os.pwrite(descriptor, f"process {os.getpid()}{f', {self._note}' if self._note else ''}".encode(), 0)


def _why(error: OSError) -> str:
    """Why a lock cannot be had, which is not that somebody holds it."""
    if error.errno in NO_LOCKS:
        return (
            f"this file system gives no locks ({error.strerror}), so two processes could drive one launch; "
            "keep the records on a local disk: --set local=FOLDER"
        )
    return f"cannot be locked ({error.strerror})"
