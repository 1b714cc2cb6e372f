"""Points that people add to a launch while it runs, in a file of their own: the journal is its driver's alone."""

import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from cpsc.errors import ConfigError
from tuning.launch.journal import append_whole

ENQUEUED_FILE = "enqueued.jsonl"


class EnqueuedPoints:
    """JSON lines in the folder of a launch, one per point; a point's place in the file is its name. Lines are never taken out."""

    def __init__(self, folder: Path) -> None:
        self.path = folder / ENQUEUED_FILE

    def add(self, point: Mapping[str, Any]) -> None:
        """Put `point` at the end, whole or not at all. ConfigError where it cannot be written."""
        line = (json.dumps(point) + "\n").encode()
        try:
            with self.path.open("ab", buffering=0) as handle:
                append_whole(handle, line)
                os.fsync(handle.fileno())
        except OSError as error:
            raise ConfigError(f"{self.path}: cannot be written ({error.strerror}), make its folder writable") from error

    def after(self, count: int) -> list[dict[str, Any]]:
        """All but the first `count` points, in their order; ConfigError, with the line's number, where a line is none."""
        if not self.path.exists():
            return []
        lines = self.path.read_text(encoding="utf-8").split("\n")[:-1]  # one without its end is being written
        return [self._parse(number, line) for number, line in enumerate(lines[count:], start=count + 1)]

    def _parse(self, number: int, line: str) -> dict[str, Any]:
        try:
            point = json.loads(line)
        except ValueError as error:
            raise ConfigError(f"{self.path} line {number}: not a point ({str(error)[:80]}), take the line out") from error
        if not isinstance(point, dict):
            raise ConfigError(f"{self.path} line {number}: not a point but a {type(point).__name__}, take the line out")
        return point
