"""Points that users add to a launch while it runs, in a separate file: only the driver may write the journal."""

import json
import logging
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from cpsc.errors import ConfigError
from tuning.launch.journal import append_whole

logger = logging.getLogger(__name__)

ENQUEUED_FILE = "enqueued.jsonl"


class EnqueuedPoints:
    """JSON lines in a launch's folder, one per point. A point is identified by its place in the file; lines are never removed.

    A line that is not a point, after a crash or an edit, is skipped with one warning.
    """

    def __init__(self, folder: Path) -> None:
        self.path = folder / ENQUEUED_FILE
        self._told: set[int] = set()

    def add(self, point: Mapping[str, Any]) -> None:
        """Append `point`, whole or not at all. ConfigError if it cannot be written."""
        line = (json.dumps(point) + "\n").encode()
        try:
            with self.path.open("a+b", buffering=0) as handle:
                append_whole(handle, b"" if self._ends_whole() else b"\n")
                append_whole(handle, line)
                os.fsync(handle.fileno())
        except OSError as error:
            raise ConfigError(f"{self.path}: cannot be written ({error.strerror}), make its folder writable") from error

    def after(self, count: int) -> list[tuple[int, dict[str, Any]]]:
        """The points after the first `count` lines, each with its place, in their order."""
        if not self.path.exists():
            return []
        lines = self.path.read_bytes().split(b"\n")[:-1]  # a line without its end is being written
        found = [(place, self._parse(place, line)) for place, line in enumerate(lines[count:], start=count)]
        return [(place, point) for place, point in found if point is not None]

    def _ends_whole(self) -> bool:
        """Whether the file ends with a whole line: a write may have been cut off."""
        content = self.path.read_bytes()
        return not content or content.endswith(b"\n")

    def _parse(self, place: int, line: bytes) -> dict[str, Any] | None:
        """The point in `line`; None if it is not a point."""
        try:
            point = json.loads(line)
        except (ValueError, RecursionError):
            point = None
        if isinstance(point, dict):
            return point
        if place not in self._told and line.strip():
            self._told.add(place)
            logger.warning("%s line %d: not a point, it is skipped", self.path, place + 1)
        return None
