"""The journal of a launch: its events, in order, in a file that outlives every process.

It is the single source of truth: MLflow's records are made from it, and a killed launch is rebuilt from it. Nothing in it is
executed when it is read.
"""

import json
import os
import stat
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any, BinaryIO

from cpsc.atomic_file import atomic_path
from cpsc.errors import ConfigError, CpscError
from tuning.file_lock import FileLock
from tuning.launch.events import Event, from_record, to_record

JOURNAL_FILE = "journal.jsonl"
ACKNOWLEDGED_NAME = "journal.acknowledged"
LOCK_NAME = "driver.lock"
CLOSING = "records the end of a dead launch"
NOTE_WAIT_S, CLOSING_WAIT_S = 1.0, 30.0
"""How long a driver waits for the lock: for its holder to write the note, and for the end of a dead launch to be recorded."""
WAY_OUT = "restore the file from a copy, or start a new launch"
"""What to do about a journal that cannot be read."""
MIN_PAUSE_S = 0.2
MAX_PAUSE_S = 5.0
"""Longest pause before new events are shown, and copied to where they outlive this machine."""
PAUSE_TO_WORK = 100


def pause_after(work_s: float) -> float:
    """How long a follower of a journal pauses after `work_s` seconds of work: it works for a hundredth of the time.

    Events that came in the meantime are sent together: a database's overhead per request costs more than the values in it.
    """
    return min(max(MIN_PAUSE_S, PAUSE_TO_WORK * work_s), MAX_PAUSE_S)


class JournalError(CpscError):
    """The journal cannot be written: nothing more can be recorded."""


class Journal:
    """Append-only JSON lines, and next to them the number of bytes that the tracking server has acknowledged.

    Appending does not wait for any server and cannot fail because of one. Events that were not acknowledged are delivered again
    after a restart, so delivery must cope with events that arrive twice.
    """

    def __init__(self, folder: Path) -> None:
        self.path = folder / JOURNAL_FILE
        self._acknowledged_path = folder / ACKNOWLEDGED_NAME
        self._lock = threading.Lock()
        self._synced = 0

    def append(self, event: Event) -> None:
        """Append one event, whole or not at all. JournalError if that fails, for example on a full disk."""
        line = (json.dumps(to_record(event), allow_nan=False) + "\n").encode()
        try:
            with self._lock, self.path.open("ab", buffering=0) as handle:
                append_whole(handle, line)
        except OSError as error:
            raise JournalError(f"{self.path}: cannot be written ({error.strerror}), what was recorded before is intact") from error

    def sync(self) -> int:
        """Make what was appended so far survive a power cut -> its size in bytes."""
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
        """Events that are not acknowledged yet, oldest first, each with the position to acknowledge."""
        return self.since(self._acknowledged())

    def acknowledge(self, position: int) -> None:
        """Note that everything before `position` has arrived."""
        temporary = self._acknowledged_path.with_suffix(".tmp")
        temporary.write_text(str(position))
        temporary.replace(self._acknowledged_path)

    def repair(self) -> list[str]:
        """Repair damage that can be repaired exactly -> one line per repair. ConfigError if the file cannot be read or written.

        Only the launch's driver may call it. A last line that a dying process left half-written is cut off, and lines that are
        exact duplicates, including the time, are removed.
        """
        remarks = []
        if self.drop_torn_line():
            remarks.append(f"{self.path}: its last line was incomplete, since its writer died, and was removed")
        if repeated := self.drop_repeated_lines():
            lines = f"line {repeated[0]}" if len(repeated) == 1 else f"{len(repeated)} lines from {repeated[0]} to {repeated[-1]}"
            remarks.append(f"{self.path}: {lines} exactly repeated earlier lines, and were removed")
        return remarks

    def drop_torn_line(self) -> bool:
        """Cut off a last line that a dying process left half-written -> whether there was one."""
        content = self._content()
        end = content.rfind(b"\n") + 1
        if end == len(content):
            return False
        try:
            os.truncate(self.path, end)
        except OSError as error:
            raise ConfigError(
                f"{self.path}: cannot be written ({error.strerror}), make it writable to continue the launch"
            ) from error
        return True

    def drop_repeated_lines(self) -> list[int]:
        """Remove lines that equal earlier ones, for example because the end of the file was copied twice -> their numbers."""
        lines = [line + b"\n" for line in self._content().split(b"\n")[:-1]]
        first = {line: number for number, line in reversed([*enumerate(lines, start=1)])}
        repeated = [number for number, line in enumerate(lines, start=1) if first[line] != number]
        if not repeated:
            return []
        self.acknowledge(0)  # positions change, so everything is delivered again, which does no harm
        with atomic_path(self.path) as path:
            path.write_bytes(b"".join(line for number, line in enumerate(lines, start=1) if first[line] == number))
        return repeated

    def since(self, position: int) -> Iterator[tuple[Event, int]]:
        """Events from `position` on, each with its end position. ConfigError, with the line number, if a line is not an event."""
        if not self._is_there():
            return
        with self._opened() as handle:
            handle.seek(position)
            while (line := handle.readline()).endswith(b"\n"):  # a line without its end is being written
                try:
                    event = _parse(line)
                except ValueError as error:
                    number = self.path.read_bytes()[: handle.tell()].count(b"\n")
                    raise ConfigError(f"{self.path} line {number}: {error}; {WAY_OUT}") from error
                yield event, handle.tell()

    def _is_there(self) -> bool:
        """Whether the journal exists. ConfigError if it is not a regular file: opening it might wait forever."""
        try:
            mode = self.path.stat().st_mode
        except FileNotFoundError:
            return False
        except OSError as error:
            raise ConfigError(f"{self.path}: cannot be read ({error.strerror}); {WAY_OUT}") from error
        if not stat.S_ISREG(mode):
            raise ConfigError(f"{self.path}: is {'a folder' if stat.S_ISDIR(mode) else 'a special file'}, not a journal; {WAY_OUT}")
        return True

    def _opened(self) -> BinaryIO:
        try:
            return self.path.open("rb")
        except OSError as error:
            raise ConfigError(f"{self.path}: cannot be read ({error.strerror}), make it readable") from error

    def _content(self) -> bytes:
        if not self._is_there():
            return b""
        with self._opened() as handle:
            return handle.read()

    def _acknowledged(self) -> int:
        """The position that was acknowledged; 0 if its record is damaged, since delivering twice does no harm."""
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
    """The event in `line`. ValueError, with a message for users, if it is not a valid event."""
    try:
        record = json.loads(line, parse_constant=_refuse_constant)
    except (ValueError, RecursionError) as error:
        raise ValueError(f"not a record ({str(error)[:80]})") from error
    if not isinstance(record, dict):
        raise ValueError(f"not a record but a {type(record).__name__}")
    return from_record(record)


def _refuse_constant(name: str) -> None:
    raise ValueError(f"{name} is not a number")


def append_whole(handle: BinaryIO, line: bytes) -> None:
    """Append `line` to an unbuffered file. If the disk is full, a partly written line is removed again."""
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

    `closing`: held only briefly, to record the end of a launch whose driver died, so that a new driver waits for it.
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
