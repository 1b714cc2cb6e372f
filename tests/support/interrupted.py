"""Work that is interrupted between two of its steps, after its state was saved."""

import itertools
from collections.abc import Callable
from pathlib import Path
from typing import Any


def interrupting(step: int, path: Path) -> Callable[[Callable[[], Any]], None]:
    """What keeps states: saves that of `step`, counted from 0, as `path`, and interrupts the work."""
    seen = itertools.count()

    def keep(state: Callable[[], Any]) -> None:
        if next(seen) == step:
            state().save(path)
            raise KeyboardInterrupt

    return keep
