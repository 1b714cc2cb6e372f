"""A thread that keeps files up to date with a journal while the sweep runs."""

import contextlib
import logging
import threading
import time
from abc import ABC, abstractmethod
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Generic, Protocol, TypeVar

from tuning.launch.events import Event
from tuning.launch.journal import Journal, pause_after
from tuning.redaction import reason

logger = logging.getLogger(__name__)

DEADLINE_S = 60.0


class Closable(Protocol):
    """A target that is closed at the end."""

    def close(self) -> None:
        """Close the target."""


Target = TypeVar("Target", bound=Closable)


class JournalFollower(threading.Thread, ABC, Generic[Target]):
    """Keeps the file or folder at `path` up to date with the journal, repeatedly until it is closed.

    It cannot end the sweep: any error gives one warning and stops the updates, which the next attempt makes up for.
    """

    def __init__(self, journal: Journal, path: Path, *, name: str) -> None:
        super().__init__(name=name, daemon=True)
        self.path = path
        self.busy_s = 0.0
        self._journal = journal
        self._position = 0
        self._closing = threading.Event()

    @abstractmethod
    def _apply(self, event: Event) -> None:
        """Note what to write for `event`."""

    @abstractmethod
    def _open(self) -> Target:
        """Open the target; called after the existing journal was read."""

    @abstractmethod
    def _write(self, target: Target) -> None:
        """Write what was noted since the last call."""

    def run(self) -> None:
        try:
            self._follow()
        except Exception as error:  # a full disk, a locked file, a bug: none of these may end the sweep
            cause = error.__cause__ or error  # Optuna wraps the database's error in a message about invalid data
            logger.warning("%s is no longer kept up to date, the sweep continues (%s)", self.path, reason(cause))

    def close(self, *, deadline_s: float = DEADLINE_S) -> None:
        """Write what is left and stop; give up after `deadline_s` seconds."""
        self._closing.set()
        self.join(deadline_s)
        if self.is_alive():
            logger.warning("%s was not finished within %.0f s, a resumed sweep completes it", self.path, deadline_s)

    def _follow(self) -> None:
        self._read_on()  # first, since an existing target is checked against the journal
        with contextlib.closing(self._open()) as target:
            while True:
                closing = self._closing.is_set()
                started = time.perf_counter()
                self._read_on()
                self._write(target)
                took_s = time.perf_counter() - started
                self.busy_s += took_s
                if closing:
                    return
                self._closing.wait(pause_after(took_s))

    def _read_on(self) -> None:
        for event, position in self._journal.since(self._position):
            self._apply(event)
            self._position = position


Follower = TypeVar("Follower", bound=JournalFollower[Any])


@contextlib.contextmanager
def following(follower: Follower) -> Iterator[Follower]:
    """Run the follower for the length of the block."""
    follower.start()
    try:
        yield follower
    finally:
        follower.close()
