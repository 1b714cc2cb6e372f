"""Display of work that goes on: bars with time left on a terminal, plain lines elsewhere, nothing when quiet."""

import json
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from datetime import datetime
from typing import Any, TypeVar

from rich.console import Console
from rich.progress import BarColumn, Progress, ProgressColumn, Task, TextColumn, TimeElapsedColumn
from rich.text import Text

from tuning.redaction import redact
from tuning.time_left import Pace, words_left

BRIEF_S = 3.0
HEARTBEAT_S = 120.0
"""Without a terminal, work that goes on says so at least this often: a log that stands still looks like a process that does."""
Item = TypeVar("Item")
Advance = Callable[[float, str], None]
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
    def bar(self, title: str, total: int, *, done: int = 0) -> Iterator[Advance]:
        """Yields a function that moves the bar, from `done` on; without a terminal, lines on the way and one at the end.

        A line a quarter of the work, and where that takes long one every few minutes. Work that has been brief so far, and has no
        words on its state, says nothing on the way.
        """
        started = time.monotonic()
        pace = Pace(total, started, done=done)
        if self.quiet:
            yield lambda done, state: None
        elif self.console.is_terminal:
            yield from self._drawn(title, total, done, pace)
        else:
            yield self._lines(title, total, done, pace)
            self.say(f"{title}: done in {time.monotonic() - started:.0f} s")

    def track(self, title: str, items: Iterable[Item], total: int) -> Iterator[Item]:
        """`items`, of which there are `total`, with a bar that moves on with each."""
        with self.bar(title, total) as advance:
            for done, item in enumerate(items, start=1):
                yield item
                advance(done, "")

    def _drawn(self, title: str, total: int, done: int, pace: Pace) -> Iterator[Advance]:
        with bar_columns(self.console) as progress:
            left = lambda: words_left(pace.left_s(time.monotonic()))  # noqa: E731
            task = progress.add_task(title, total=total, completed=done, state="", left=left)

            def advance(done: float, state: str) -> None:
                pace.advance(done, time.monotonic())
                progress.update(task, completed=done, state=state)

            yield advance

    def _lines(self, title: str, total: int, done: int, pace: Pace) -> Advance:
        quarter, started = max(1, total // 4), time.monotonic()
        next_mark, said = done + quarter, started

        def advance(done: float, state: str) -> None:
            nonlocal next_mark, said
            now = time.monotonic()
            pace.advance(done, now)
            is_due = next_mark <= done and (state or now - started >= BRIEF_S)
            if done < total and (is_due or now - said >= HEARTBEAT_S):
                next_mark, said = max(next_mark, int(done) + quarter) if is_due else next_mark, now
                self.say(f"{title}: {int(done)}/{total}, {words_left(pace.left_s(now))} {state}".rstrip())

        return advance


class LeftColumn(ProgressColumn):
    """What the task's field `left`, a function, says of the time that it still takes."""

    max_refresh = 0.5

    def render(self, task: Task) -> Text:
        return Text(task.fields["left"]())


def bar_columns(console: Console) -> Progress:
    """The bar every verb shows: title, how far, how long, how much longer, and the caller's words."""
    return Progress(
        TextColumn("{task.description}"),
        BarColumn(bar_width=24),
        TextColumn("{task.percentage:>3.0f} %"),
        TimeElapsedColumn(),
        LeftColumn(),
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
