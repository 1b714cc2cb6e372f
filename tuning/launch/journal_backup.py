"""A copy of a launch's journal in storage that outlives the driver's machine."""

import time
from contextlib import suppress

from cpsc.errors import ConfigError
from tuning.launch.journal import JOURNAL_FILE, Journal
from tuning.storage import PART, Storage

PAUSE_S = 5.0
"""Seconds between two copies: each copies the whole file."""
PAUSE_TO_COPY = 20
"""Pause per time spent on copying: copying takes at most a twentieth of the time."""


class JournalBackup:
    """Keeps `launch`'s folder in `storage` up to date with its journal. `storage` is None if the journal itself is there."""

    def __init__(self, journal: Journal, storage: Storage | None, launch: str) -> None:
        self._journal = journal
        self._storage = storage
        self._name = f"{launch}/{JOURNAL_FILE}"
        self._copied = 0
        self._next = 0.0

    def sync(self, *, at_once: bool) -> int:
        """Copy the journal if a copy is due, or `at_once` -> the number of bytes that survive the loss of this machine.

        MLflow must not hold anything that a resume would not find in the journal: it would be recorded twice.
        CheckpointError if the storage cannot be written.
        """
        size = self._journal.sync()
        if self._storage is None:
            return size
        if size > self._copied and (at_once or time.monotonic() >= self._next):
            started = time.monotonic()
            if not self._copied:
                self._remove_remains(self._storage)
            self._storage.put(self._journal.path, self._name)
            self._copied = size
            self._next = time.monotonic() + max(PAUSE_S, PAUSE_TO_COPY * (time.monotonic() - started))
        return self._copied

    def _remove_remains(self, storage: Storage) -> None:
        """Remove what drivers of this launch have left that were killed while copying; no other driver copies now."""
        folder, _, file = self._name.rpartition("/")
        with suppress(ConfigError):  # if the storage is unreachable, the copy reports it
            for name in storage.names(folder):
                if name.startswith(f"{file}.") and name.endswith(PART):
                    storage.delete(f"{folder}/{name}")
