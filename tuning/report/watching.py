"""A launch while it runs, in another process or another thread: read again and again, and shown wherever it has changed."""

import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, Protocol

from tuning.display import Display
from tuning.file_lock import FileLock
from tuning.launch import Journal
from tuning.launch.events import Event
from tuning.launch.folder import is_begun
from tuning.launch.journal import LOCK_NAME
from tuning.launch.reference import latest_launch
from tuning.report.loading import read_launch
from tuning.results import Launch, launch_from_journal
from tuning.results.html import launch_html
from tuning.results.leaderboard import choice_line, progress_line
from tuning.study import Study
from tuning.study.names import NAME
from tuning.tracking.client import reading_store, store_uri, using_mlflow

UNDER_WAY = "RUNNING"
Show = Callable[[Launch, bool], object]
"""Told the launch as far as it has come, and whether it is still under way."""


class Source(Protocol):
    """Where a launch is read from while it runs."""

    def read(self) -> Launch:
        """The launch as far as it has come."""

    def is_driven(self) -> bool:
        """Whether anybody still drives it."""


def watch_launch(source: Source, show: Show, *, every_s: float) -> Launch:
    """Show the launch whenever it has come further, until nobody drives it or the user interrupts -> as it was last."""
    shown = None
    while True:
        is_driven = source.is_driven()  # before it is read: what is written between the two must not be missed
        launch = source.read()
        if (launch, is_driven) != shown:
            show(launch, is_driven)
            shown = launch, is_driven
        if not is_driven:
            return launch
        try:
            time.sleep(every_s)
        except KeyboardInterrupt:
            return launch


def source_of(study: Study, name: str | None) -> Source:
    """The launch `name` of `study`, the latest where that is None: its journal where it is on this machine, or the MLflow store.

    ConfigError where there is none.
    """
    folder = latest_launch(study, study.local) if name is None else study.local / name if NAME.fullmatch(name) else None
    return StoreSource(study, name) if folder is None or not is_begun(folder) else JournalSource(folder)


class JournalSource:
    """A launch on this machine."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._events: list[Event] = []
        self._position = 0

    def read(self) -> Launch:
        """From the journal, of which what was read before is not read again."""
        for event, position in Journal(self._folder).since(self._position):
            self._events.append(event)
            self._position = position
        return launch_from_journal(self._events, self._folder.name)

    def is_driven(self) -> bool:
        """The system releases a driver's lock however it ends."""
        return FileLock(self._folder / LOCK_NAME).is_held()


class StoreSource:
    """A launch of which there is nothing here but the store it is recorded in."""

    def __init__(self, study: Study, name: str | None) -> None:
        self._study = study
        self._client, launch = read_launch(study, name, Display(quiet=True))
        self._name, self._run_id = launch.name, launch.run_id

    def read(self) -> Launch:
        """ConfigError where the store is away."""
        return read_launch(self._study, self._name, Display(quiet=True))[1]

    @using_mlflow()
    def is_driven(self) -> bool:
        """As its run says, which a driver that died leaves running until another one looks."""
        with reading_store(store_uri(self._study)):
            return bool(self._client.get_run(self._run_id).info.status == UNDER_WAY)


def default_show(write: Callable[[str], object] = print) -> Show:
    """A table that is refreshed in its place in a notebook; elsewhere a line whenever something has changed."""
    return NotebookTable() if _is_notebook() else lambda launch, is_driven: write(_line(launch, is_driven))


class NotebookTable:
    """The launch's leaderboard below a notebook's cell, one and the same however often it is shown."""

    def __init__(self) -> None:
        self._handle: Any = None

    def __call__(self, launch: Launch, is_driven: bool) -> None:
        from IPython.display import HTML, display

        moment = f"as of {time.strftime('%H:%M:%S')}" if is_driven else "nothing runs any more"
        table = HTML(launch_html(launch, [progress_line(launch), moment]))
        if self._handle is None:
            self._handle = display(table, display_id=True)
        else:
            self._handle.update(table)


def _line(launch: Launch, is_driven: bool) -> str:
    return f"{launch.name}: {progress_line(launch)}" + ("" if is_driven else f"; {choice_line(launch)}")


def _is_notebook() -> bool:
    """Whether this is the kernel of one: whoever runs it has imported IPython."""
    shell = getattr(sys.modules.get("IPython"), "get_ipython", lambda: None)()
    return hasattr(shell, "kernel")
