"""Who drives a launch: one process at a time, and why a lock cannot be had where it is not that."""

import errno
import fcntl
import os
import threading
import time
from pathlib import Path

import pytest

from cpsc.errors import ConfigError
from tuning.file_lock import FileLock, LockError
from tuning.launch import DriverLock
from tuning.launch.journal import CLOSING


@pytest.mark.parametrize(
    ("code", "reason"),
    [
        (errno.ENOLCK, r"this file system does not support locks \(No locks available\).* --set local=FOLDER"),
        (errno.EOPNOTSUPP, r"this file system does not support locks \(Operation not supported\).* --set local=FOLDER"),
        (errno.ENOSYS, r"this file system does not support locks \(Function not implemented\)"),
        (errno.EIO, r"cannot be locked \(Input/output error\)"),
        (errno.EACCES, r"cannot be locked \(Permission denied\)"),
    ],
)
def test_what_keeps_a_lock_from_being_had_is_said(code: int, reason: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(descriptor: int, operation: int) -> None:
        raise OSError(code, os.strerror(code))

    monkeypatch.setattr(fcntl, "flock", refuse)  # no file system of this machine refuses locks
    with pytest.raises(ConfigError, match=reason) as refused, DriverLock(tmp_path):
        pass
    assert "another process" not in str(refused.value)


def test_a_lock_file_that_cannot_be_opened_is_said(tmp_path: Path) -> None:
    (tmp_path / "driver.lock").mkdir()
    with pytest.raises(ConfigError, match=r"driver\.lock: cannot be written \(Is a directory\), make its folder writable$"):
        DriverLock(tmp_path).try_acquire()
    with pytest.raises(ConfigError, match=r"cannot be written \(No such file or directory\)"):
        DriverLock(tmp_path / "gone").try_acquire()


def test_who_holds_a_lock_is_named(tmp_path: Path) -> None:
    lock = DriverLock(tmp_path)
    with (
        DriverLock(tmp_path),
        pytest.raises(ConfigError, match=rf"another process is running.*process {os.getpid()}, drives"),
        lock,
    ):
        pass


def test_a_driver_waits_while_the_end_of_the_dead_launch_is_recorded(tmp_path: Path) -> None:
    closer = DriverLock(tmp_path, closing=True)
    assert closer.try_acquire()
    assert CLOSING in closer.note()
    threading.Timer(2.0, closer.release).start()
    started = time.monotonic()
    with DriverLock(tmp_path):
        assert time.monotonic() - started > 1.5


def test_a_lock_on_a_file_that_was_removed_is_none(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Between opening and locking, another process may clear the folder away: both would hold a lock."""
    lock = FileLock(tmp_path / "lock")
    flock = fcntl.flock

    def lock_too_late(descriptor: int, operation: int) -> None:
        (tmp_path / "lock").unlink()
        flock(descriptor, operation)

    monkeypatch.setattr(fcntl, "flock", lock_too_late)
    assert not lock.try_acquire()
    monkeypatch.undo()
    assert lock.try_acquire()


def test_a_lock_is_waited_for_so_long_and_no_longer(tmp_path: Path) -> None:
    holder, waiting = FileLock(tmp_path / "lock", note="makes something"), FileLock(tmp_path / "lock")
    assert holder.try_acquire()
    with (
        pytest.raises(LockError, match=r"another process has held this lock for 0 s \(process \d+, makes something\)"),
        waiting.held(0),
    ):
        pass
    threading.Timer(0.2, holder.release).start()
    with waiting.held(30):
        assert not holder.try_acquire()
    assert holder.try_acquire()


def test_whether_a_lock_is_held_can_be_seen_without_taking_it(tmp_path: Path) -> None:
    lock = FileLock(tmp_path / "lock")
    assert not lock.is_held(), "there is no file"
    with lock.held(0.0):
        assert FileLock(tmp_path / "lock").is_held()
        assert lock.is_held()
    assert not FileLock(tmp_path / "lock").is_held()
    assert lock.try_acquire(), "looking has left nothing behind"
    lock.release()
