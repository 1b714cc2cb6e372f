"""Display of work that goes on: bars with time left on a terminal, plain lines elsewhere, nothing when quiet."""

import json
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from datetime import datetime
from typing import Any, TypeVar

from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn

from tuning.redaction import redact

BRIEF_S = 3.0
Item = TypeVar("Item")
Advance = Callable[[int, str], None]
"""Called with the units done so far and a few words on the state."""


class Display:
    """Says things and shows how far long work has come."""

    def __init__(self, *, quiet: bool = False, console: Console | None = None) -> None:
        self.quiet = quiet
        self.console = console or Console(stderr=True, highlight=False, emoji=False)

    def say(self, text: str) -> None:
        """One line of news, without secrets."""
        if not self.quiet:
            self.console.print(redact(text), soft_wrap=True, markup=False)

    @contextmanager
    def bar(self, title: str, total: int) -> Iterator[Advance]:
        """Yields a function that moves the bar; without a terminal, four lines on the way and one at the end.

        Work that has been brief so far, and has no words on its state, says nothing on the way.
        """
        started = time.monotonic()
        if self.quiet:
            yield lambda done, state: None
        elif self.console.is_terminal:
            with bar_columns(self.console) as progress:
                task = progress.add_task(title, total=total, state="")
                yield lambda done, state: progress.update(task, completed=done, state=state)
        else:
            yield self._lines(title, total)
            self.say(f"{title}: done in {time.monotonic() - started:.0f} s")

    def track(self, title: str, items: Iterable[Item], total: int) -> Iterator[Item]:
        """`items`, of which there are `total`, with a bar that moves on with each."""
        with self.bar(title, total) as advance:
            for done, item in enumerate(items, start=1):
                yield item
                advance(done, "")

    def _lines(self, title: str, total: int) -> Advance:
        started, next_mark = time.monotonic(), [max(1, total // 4)]

        def advance(done: int, state: str) -> None:
            elapsed = time.monotonic() - started
            if next_mark[0] <= done < total and (state or elapsed >= BRIEF_S):
                next_mark[0] = done + max(1, total // 4)
                left = elapsed * (total - done) / done
                self.say(f"{title}: {done}/{total}, about {left:.0f} s left {state}".rstrip())

        return advance


def bar_columns(console: Console) -> Progress:
    """The bar every verb shows: title, how far, how long, how much longer, and the caller's words."""
    return Progress(
        TextColumn("{task.description}"),
        BarColumn(bar_width=24),
        TextColumn("{task.percentage:>3.0f} %"),
        TimeElapsedColumn(),
        TextColumn("left"),
        TimeRemainingColumn(),
        TextColumn("{task.fields[state]}"),
        console=console,
    )


def percent(share: float | None) -> str:
    """A share as a person reads it."""
    return "-" if share is None else f"{100 * share:.2f} %"


def to_json(content: Any) -> str:
    """`content` as one JSON text; moments in ISO 8601."""
    return json.dumps(content, indent=2, default=_plain)


def _plain(value: Any) -> str:
    assert isinstance(value, datetime), type(value)
    return value.isoformat()
