"""Watching a launch that runs in another process or thread: it is read repeatedly, and shown whenever it has changed."""

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
"""Called with the launch so far, and whether it is still running."""


class Source(Protocol):
    """Where a running launch is read from."""

    def read(self) -> Launch:
        """The launch so far."""

    def is_driven(self) -> bool:
        """Whether a driver still runs it."""


def watch_launch(source: Source, show: Show, *, every_s: float) -> Launch:
    """Show the launch whenever it has progressed, until no driver runs it or the user interrupts -> its last state."""
    shown = None
    while True:
        is_driven = source.is_driven()  # before reading, so as not to miss what is written in between
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
    """The source of the launch `name` of `study`, or the latest if None: its journal if that is on this machine, else MLflow.

    ConfigError if there is no such launch.
    """
    folder = latest_launch(study, study.local) if name is None else study.local / name if NAME.fullmatch(name) else None
    return StoreSource(study, name) if folder is None or not is_begun(folder) else JournalSource(folder)


class JournalSource:
    """A launch on this machine, read from its journal."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._events: list[Event] = []
        self._position = 0

    def read(self) -> Launch:
        """The launch so far; only new events of the journal are read."""
        for event, position in Journal(self._folder).since(self._position):
            self._events.append(event)
            self._position = position
        return launch_from_journal(self._events, self._folder.name)

    def is_driven(self) -> bool:
        """Whether the driver's lock is held; the system releases it however the driver ends."""
        return FileLock(self._folder / LOCK_NAME).is_held()


class StoreSource:
    """A launch on another machine, read from the MLflow store."""

    def __init__(self, study: Study, name: str | None) -> None:
        self._study = study
        self._client, launch = read_launch(study, name, Display(quiet=True))
        self._name, self._run_id = launch.name, launch.run_id

    def read(self) -> Launch:
        """The launch so far. ConfigError if the store cannot be reached."""
        return read_launch(self._study, self._name, Display(quiet=True))[1]

    @using_mlflow()
    def is_driven(self) -> bool:
        """Whether its MLflow run is running; a driver that was killed leaves it so until another one cleans up."""
        with reading_store(store_uri(self._study)):
            return bool(self._client.get_run(self._run_id).info.status == UNDER_WAY)


def default_show(write: Callable[[str], object] = print) -> Show:
    """In a notebook, a table that is refreshed in place; elsewhere, a line whenever something has changed."""
    return NotebookTable() if _is_notebook() else lambda launch, is_driven: write(_line(launch, is_driven))


class NotebookTable:
    """The launch's leaderboard below a notebook cell, updated in place."""

    def __init__(self) -> None:
        self._handle: Any = None

    def __call__(self, launch: Launch, is_driven: bool) -> None:
        from IPython.display import HTML, display

        moment = f"as of {time.strftime('%H:%M:%S')}" if is_driven else "no longer running"
        table = HTML(launch_html(launch, [progress_line(launch), moment]))
        if self._handle is None:
            self._handle = display(table, display_id=True)
        else:
            self._handle.update(table)


def _line(launch: Launch, is_driven: bool) -> str:
    return f"{launch.name}: {progress_line(launch)}" + ("" if is_driven else f"; {choice_line(launch)}")


def _is_notebook() -> bool:
    """Whether this process is a notebook's kernel, which has always imported IPython."""
    shell = getattr(sys.modules.get("IPython"), "get_ipython", lambda: None)()
    return hasattr(shell, "kernel")
