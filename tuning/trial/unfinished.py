"""State of work that takes long, saved now and then, so that the process after an interrupted one can continue it."""

import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Generic, Protocol, TypeVar

from cpsc.errors import CheckpointError, ConfigError
from tuning.storage import Storage

KEPT_EVERY_S = 20.0
"""The most that an interruption can cost if saving is quick."""
SHARE_OF_SAVING = 0.02
"""The most that saving may take of the time: a large network in a remote storage is saved less often."""


class _Savable(Protocol):
    def save(self, path: Path) -> None: ...


State = TypeVar("State", bound=_Savable)


class Unfinished(Generic[State]):
    """The state of the work on the file `name` in `storage`, which is kept beside it until that file is complete."""

    def __init__(self, storage: Storage, name: str) -> None:
        self._storage, self._result, self._name = storage, name, f"{name.removesuffix('.pt')}.unfinished.pt"
        self._due = time.monotonic() + KEPT_EVERY_S

    def load(self, read: Callable[[Path], State]) -> State | None:
        """The state that an earlier process saved; None if there is none, or none that can be continued."""
        if not self._storage.exists(self._name):
            return None
        with suppress(CheckpointError), self._storage.reading(self._storage.path(self._name)) as path:
            return read(path)
        return None

    def keep(self, state: Callable[[], State]) -> None:
        """Save the state if that is due."""
        if (began := time.monotonic()) < self._due:
            return
        with self._storage.writing(self._name) as path:
            state().save(path)
        ended = time.monotonic()
        self._due = ended + max(KEPT_EVERY_S, (ended - began) / SHARE_OF_SAVING)

    def complete(self, result: _Savable) -> None:
        """Write the result of the work, and delete the state."""
        with self._storage.writing(self._result) as path:
            result.save(path)
        with suppress(ConfigError):  # a state that is left behind does no harm
            if self._storage.exists(self._name):
                self._storage.delete(self._name)
