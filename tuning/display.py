"""Progress display: bars with the time left on a terminal, plain lines elsewhere, nothing when quiet."""

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
"""Without a terminal, progress is logged at least this often: a silent log looks like a hanging process."""
Item = TypeVar("Item")
Advance = Callable[[float, str], None]
"""Called with the units done so far and a short text on the state."""


class Display:
    """Prints messages and shows the progress of long work."""

    def __init__(self, *, quiet: bool = False, console: Console | None = None) -> None:
        self.quiet = quiet
        self.console = console or Console(stderr=True, highlight=False, emoji=False)

    def say(self, text: str) -> None:
        """Print one line, with secrets removed."""
        if not self.quiet:
            self.console.print(redact(text), soft_wrap=True, markup=False)

    @contextmanager
    def bar(self, title: str, total: int, *, done: float = 0) -> Iterator[Advance]:
        """Yields a function that advances the bar, which starts at `done`. Without a terminal it logs lines, and one at the end.

        A line is logged after each quarter of the work, and every few minutes if that takes long. Short work without a state text
        logs only its end.
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
        """Yields the `total` items of `items`, with a bar that advances with each."""
        with self.bar(title, total) as advance:
            for done, item in enumerate(items, start=1):
                yield item
                advance(done, "")

    def _drawn(self, title: str, total: int, done: float, pace: Pace) -> Iterator[Advance]:
        with bar_columns(self.console) as progress:
            left = lambda: words_left(pace.left_s(time.monotonic()))  # noqa: E731
            task = progress.add_task(title, total=total, state="", left=left)
            progress.update(task, completed=done)

            def advance(done: float, state: str) -> None:
                pace.advance(done, time.monotonic())
                progress.update(task, completed=done, state=state)

            yield advance

    def _lines(self, title: str, total: int, done: float, pace: Pace) -> Advance:
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
    """Shows the time left: the text that the task's field `left`, a function, returns."""

    max_refresh = 0.5

    def render(self, task: Task) -> Text:
        return Text(task.fields["left"]())


def bar_columns(console: Console) -> Progress:
    """The bar that every verb shows: title, progress, elapsed time, time left, and the caller's state text."""
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
    """A share as a percentage, ``-`` for None."""
    return "-" if share is None else f"{100 * share:.2f} %"


def to_json(content: Any) -> str:
    """`content` as JSON text; datetimes in ISO 8601."""
    return json.dumps(content, indent=2, default=_plain)


def _plain(value: Any) -> str:
    assert isinstance(value, datetime), type(value)
    return value.isoformat()
