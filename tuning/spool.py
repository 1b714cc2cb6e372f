"""A file of events on its way to the tracking server: appended by the driver, delivered by a thread, kept until then."""

import json
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

Event = dict[str, Any]


class Spool:
    """Append-only JSON lines, with the number of delivered bytes in a file beside it.

    Appending never waits for a server and cannot fail for its sake; what was appended and not acknowledged is
    delivered again after a restart, so whoever delivers must be able to meet an event twice.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._acknowledged_path = path.with_suffix(".acknowledged")
        self._lock = threading.Lock()

    def append(self, event: Event) -> None:
        """Add one event at the end."""
        line = json.dumps(event, allow_nan=False) + "\n"
        with self._lock, self.path.open("a", encoding="utf-8") as handle:
            handle.write(line)

    def pending(self) -> Iterator[tuple[Event, int]]:
        """Events that are not acknowledged yet, oldest first, each with the position to acknowledge it by."""
        if not self.path.exists():
            return
        with self.path.open("rb") as handle:
            handle.seek(self._acknowledged())
            for line in handle:
                if not line.endswith(b"\n"):
                    return  # being written
                yield json.loads(line), handle.tell()

    def acknowledge(self, position: int) -> None:
        """Everything before `position` has arrived."""
        temporary = self._acknowledged_path.with_suffix(".tmp")
        temporary.write_text(str(position))
        temporary.replace(self._acknowledged_path)

    def _acknowledged(self) -> int:
        return int(self._acknowledged_path.read_text()) if self._acknowledged_path.exists() else 0

    def __getstate__(self) -> dict[str, Any]:
        return {"path": self.path}  # Ray pickles callbacks; a lock cannot travel

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__init__(state["path"])  # type: ignore[misc]
