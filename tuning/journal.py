"""The journal of a launch: what happened, in order, in a file that outlives every process.

It is the one truth that everything else is made from: MLflow is told what it says, and a killed study is rebuilt
from it. Nothing in it is executed when it is read.
"""

import fcntl
import json
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import IO, Any

from cpsc.errors import ConfigError

Event = dict[str, Any]
FILE_NAME = "journal.jsonl"


class Journal:
    """Append-only JSON lines, and beside them how many bytes the tracking server has acknowledged.

    Appending waits for no server and cannot fail for its sake; what was appended and not acknowledged is delivered
    again after a restart, so whoever delivers must be able to meet an event twice.
    """

    def __init__(self, folder: Path) -> None:
        self.path = folder / FILE_NAME
        self._acknowledged_path = folder / "journal.acknowledged"
        self._lock = threading.Lock()

    def append(self, event: Event) -> None:
        """Add one event at the end."""
        line = json.dumps(event, allow_nan=False) + "\n"
        with self._lock, self.path.open("a", encoding="utf-8") as handle:
            handle.write(line)

    def events(self) -> Iterator[Event]:
        """Every event so far, oldest first."""
        return (event for event, _ in self._read(0))

    def pending(self) -> Iterator[tuple[Event, int]]:
        """Events that are not acknowledged yet, oldest first, each with the position to acknowledge it by."""
        return self._read(self._acknowledged())

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

    def _read(self, position: int) -> Iterator[tuple[Event, int]]:
        if not self.path.exists():
            return
        with self.path.open("rb") as handle:
            handle.seek(position)
            while (line := handle.readline()).endswith(b"\n"):  # a line without its end is being written
                yield json.loads(line), handle.tell()

    def _acknowledged(self) -> int:
        return int(self._acknowledged_path.read_text()) if self._acknowledged_path.exists() else 0

    def __getstate__(self) -> dict[str, Any]:
        return {"folder": self.path.parent}  # Ray pickles callbacks; a lock cannot travel

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__init__(state["folder"])  # type: ignore[misc]


class DriverLock:
    """Held by the process that drives a launch; the system releases it however that process ends."""

    def __init__(self, folder: Path) -> None:
        self._path = folder / "driver.lock"
        self._handle: IO[str] | None = None

    def try_acquire(self) -> bool:
        """Whether this process drives the launch now; False while another one does."""
        handle = self._path.open("w")
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            handle.close()
            return False
        self._handle = handle
        return True

    def release(self) -> None:
        """Let another process drive."""
        if self._handle is not None:
            self._handle.close()
            self._handle = None

    def __enter__(self) -> "DriverLock":
        if not self.try_acquire():
            raise ConfigError(f"{self._path.parent}: another process is running this launch, wait for it or stop it")
        return self

    def __exit__(self, *error: object) -> None:
        self.release()
