"""A thread that brings files beside a journal in line with it while the sweep runs, as others look at them."""

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
    """What is written to, and let go of at the end."""

    def close(self) -> None:
        """Let go of it."""


Target = TypeVar("Target", bound=Closable)


class JournalFollower(threading.Thread, ABC, Generic[Target]):
    """Keeps what lies at `path` up to date with the journal, again and again until it is closed.

    It cannot end the sweep: whatever goes wrong is one warning and the end of the following, and the next attempt brings all in
    line again.
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
        """Take note of what is to be written for `event`."""

    @abstractmethod
    def _open(self) -> Target:
        """What is written to; the journal has been read before, as far as it went."""

    @abstractmethod
    def _write(self, target: Target) -> None:
        """Write what was noted since the last time."""

    def run(self) -> None:
        try:
            self._follow()
        except Exception as error:  # a full disk, a locked file, a bug of ours: no sweep may end for it
            cause = error.__cause__ or error  # Optuna wraps what the database says into a guess at invalid data
            logger.warning("%s is no longer kept up to date, the sweep goes on (%s)", self.path, reason(cause))

    def close(self, *, deadline_s: float = DEADLINE_S) -> None:
        """Write what is left and stop; give up after `deadline_s`."""
        self._closing.set()
        self.join(deadline_s)
        if self.is_alive():
            logger.warning("%s was not finished within %.0f s, a resumed sweep completes it", self.path, deadline_s)

    def _follow(self) -> None:
        self._read_on()  # first, for what exists is judged by what the journal says
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
    """Runs the follower for the length of the block."""
    follower.start()
    try:
        yield follower
    finally:
        follower.close()
