"""The journal of a launch: what happened, in order, in a file that outlives every process.

It is the one truth that everything else is made from: MLflow is told what it says, and a killed study is rebuilt
from it. Nothing in it is executed when it is read.
"""

import json
import os
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any, BinaryIO

from cpsc.errors import ConfigError, CpscError
from tuning.file_lock import FileLock

Event = dict[str, Any]
FILE_NAME = "journal.jsonl"
ACKNOWLEDGED_NAME = "journal.acknowledged"
LOCK_NAME = "driver.lock"
CLOSING = "records the end of a dead launch"
NOTE_WAIT_S, CLOSING_WAIT_S = 1.0, 30.0
"""How long a driver waits for the lock: whoever holds it may not have said yet what for; a dead launch is soon recorded."""
WAY_OUT = "restore the file from a copy, or start a new launch"
"""What to do about a journal that cannot be read."""
MIN_PAUSE_S = 0.2
MAX_PAUSE_S = 5.0
"""So long what happened may wait to be shown, and to be copied to where it outlives this machine."""
PAUSE_TO_WORK = 100


def pause_after(work_s: float) -> float:
    """How long whoever follows a journal rests after `work_s` of telling others: work takes one part in a hundred of the time.

    What a trial did meanwhile is told at once: a database's bookkeeping for a request costs more than the values in it.
    """
    return min(max(MIN_PAUSE_S, PAUSE_TO_WORK * work_s), MAX_PAUSE_S)


class JournalError(CpscError):
    """The journal cannot be written: nothing more can be recorded."""


class Journal:
    """Append-only JSON lines, and beside them how many bytes the tracking server has acknowledged.

    Appending waits for no server and cannot fail for its sake; what was appended and not acknowledged is delivered
    again after a restart, so whoever delivers must be able to meet an event twice.
    """

    def __init__(self, folder: Path) -> None:
        self.path = folder / FILE_NAME
        self._acknowledged_path = folder / ACKNOWLEDGED_NAME
        self._lock = threading.Lock()
        self._synced = 0

    def append(self, event: Event) -> None:
        """Add one event at the end, whole or not at all. JournalError where the disk is full, say."""
        line = (json.dumps(event, allow_nan=False) + "\n").encode()
        try:
            with self._lock, self.path.open("ab", buffering=0) as handle:
                _write_whole(handle, line)
        except OSError as error:
            raise JournalError(f"{self.path}: cannot be written ({error.strerror}), what was recorded before is intact") from error

    def sync(self) -> int:
        """Put what was appended so far where no power cut takes it -> its size in bytes."""
        with self.path.open("rb") as handle:
            size = handle.seek(0, os.SEEK_END)
            if size != self._synced:
                os.fsync(handle.fileno())
                self._synced = size
        return size

    def events(self) -> Iterator[Event]:
        """Every event so far, oldest first."""
        return (event for event, _ in self.since(0))

    def pending(self) -> Iterator[tuple[Event, int]]:
        """Events that are not acknowledged yet, oldest first, each with the position to acknowledge it by."""
        return self.since(self._acknowledged())

    def acknowledge(self, position: int) -> None:
        """Everything before `position` has arrived."""
        temporary = self._acknowledged_path.with_suffix(".tmp")
        temporary.write_text(str(position))
        temporary.replace(self._acknowledged_path)

    def drop_torn_line(self) -> None:
        """Cut off a last line that a dying process left half-written."""
        if not self.path.exists():
            return
        with self.path.open("rb+") as handle:
            content = handle.read()
            handle.truncate(content.rfind(b"\n") + 1)

    def since(self, position: int) -> Iterator[tuple[Event, int]]:
        """Events from `position` on. ConfigError, with the line's number, where a line is not one."""
        if not self.path.exists():
            return
        with self.path.open("rb") as handle:
            handle.seek(position)
            while (line := handle.readline()).endswith(b"\n"):  # a line without its end is being written
                try:
                    event = _parse(line)
                except ValueError as error:
                    number = self.path.read_bytes()[: handle.tell()].count(b"\n")
                    raise ConfigError(f"{self.path} line {number}: {error}; {WAY_OUT}") from error
                yield event, handle.tell()

    def _acknowledged(self) -> int:
        """The position that was acknowledged; 0 where its record is damaged, for delivering twice does no harm."""
        if not self._acknowledged_path.exists():
            return 0
        try:
            position = int(self._acknowledged_path.read_text())
            with self.path.open("rb") as handle:
                handle.seek(max(0, position - 1))
                return position if position > 0 and handle.read(1) == b"\n" else 0
        except (ValueError, OSError):
            return 0

    def __getstate__(self) -> dict[str, Any]:
        return {"folder": self.path.parent}  # Ray pickles callbacks; a lock cannot travel

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__init__(state["folder"])  # type: ignore[misc]


def _parse(line: bytes) -> Event:
    """The event in `line`. ValueError, its message for a person, where there is none."""
    try:
        event = json.loads(line, parse_constant=_refuse_constant)
    except (ValueError, RecursionError) as error:
        raise ValueError(f"not a record ({str(error)[:80]})") from error
    if not isinstance(event, dict):
        raise ValueError(f"not a record but a {type(event).__name__}")
    return event


def _refuse_constant(name: str) -> None:
    raise ValueError(f"{name} is not a number")


def _write_whole(handle: BinaryIO, line: bytes) -> None:
    """A full disk takes a part of a line; what follows must not be glued to it."""
    end = handle.seek(0, os.SEEK_END)
    try:
        written = handle.write(line)
        while written < len(line):
            written += handle.write(line[written:])
    except OSError:
        handle.truncate(end)
        raise


class DriverLock(FileLock):
    """Held by the process that drives a launch; the system releases it however that process ends.

    `closing`: to record the end of a launch whose driver died, which is brief, so that whoever would drive it waits for that.
    """

    def __init__(self, folder: Path, *, closing: bool = False) -> None:
        super().__init__(folder / LOCK_NAME, note=CLOSING if closing else "drives this launch")

    def __enter__(self) -> "DriverLock":
        if not self.acquire(NOTE_WAIT_S) and not (CLOSING in self.note() and self.acquire(CLOSING_WAIT_S)):
            folder, holder = self.path.parent, self.note()
            raise ConfigError(f"{folder}: another process is running this launch ({holder}), wait for it or stop it")
        return self

    def __exit__(self, *error: object) -> None:
        self.release()
