"""Where events of a launch are kept: a journal's file, or whatever stands for it."""

from collections.abc import Iterator
from typing import Protocol

from tuning.launch.events import Event


class EventLog(Protocol):
    """Events in the order in which they came."""

    def append(self, event: Event) -> None:
        """Add one at the end."""

    def events(self) -> Iterator[Event]:
        """All so far, oldest first."""
