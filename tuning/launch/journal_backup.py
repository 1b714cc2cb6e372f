"""A launch's journal where it outlives the driver's machine."""

import time
from contextlib import suppress

from cpsc.errors import ConfigError
from tuning.launch.journal import JOURNAL_FILE, Journal
from tuning.storage import PART, Storage

PAUSE_S = 5.0
"""Between two copies: each takes the whole file."""
PAUSE_TO_COPY = 20
"""The pause grows with the file: copying takes at most this fraction of the time, one part in twenty."""


class JournalBackup:
    """Keeps `launch`'s folder in `storage` up to date with its journal; None: the journal lies there itself."""

    def __init__(self, journal: Journal, storage: Storage | None, launch: str) -> None:
        self._journal = journal
        self._storage = storage
        self._name = f"{launch}/{JOURNAL_FILE}"
        self._copied = 0
        self._next = 0.0

    def sync(self, *, at_once: bool) -> int:
        """Make the journal safe, as far as it is time to -> how many of its bytes no loss of this machine takes.

        MLflow must hold nothing that a resume would not find in the journal: it would be recorded twice.
        CheckpointError where the storage cannot be written.
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
        """What drivers of this launch have left that were killed as they copied; now no other one does."""
        folder, _, file = self._name.rpartition("/")
        with suppress(ConfigError):  # if the storage is away, the copy says so
            for name in storage.names(folder):
                if name.startswith(f"{file}.") and name.endswith(PART):
                    storage.delete(f"{folder}/{name}")
