"""Interface of a launch's event log: a journal file, or a replacement for it."""

from collections.abc import Iterator
from typing import Protocol

from tuning.launch.events import Event


class EventLog(Protocol):
    """Events in the order in which they occurred."""

    def append(self, event: Event) -> None:
        """Append an event."""

    def events(self) -> Iterator[Event]:
        """All events so far, oldest first."""
