"""Launches at a glance: the state and progress of each, and its best result so far."""

import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from cpsc.errors import ConfigError
from tuning.display import percent
from tuning.file_lock import FileLock
from tuning.launch import Journal
from tuning.launch.clock import is_afterword
from tuning.launch.events import AttemptStart, Event, LaunchEnd, LaunchStart
from tuning.launch.folder import launches_in
from tuning.launch.journal import JOURNAL_FILE, LOCK_NAME
from tuning.launch.reference import RUNS, launch_of, load_study, study_file
from tuning.outcome import RUNNING
from tuning.results.from_journal import launch_from_journal
from tuning.storage import Storage
from tuning.study.paths import folder_path
from tuning.study.yaml_loader import load_yaml

DEAD, UNREADABLE = "dead", "unreadable"
STATES = {"FINISHED": "finished", "KILLED": "interrupted", "FAILED": "failed"}
"""States by MLflow's status of the launch's run."""
GO_ON = ("interrupted", DEAD, "failed")
"""States from which a launch can be resumed."""
HEADINGS = ("launch", "study", "state", "trials", "best", "last update")


@dataclass(frozen=True, kw_only=True)
class LaunchOverview:
    """A launch as a row of words and numbers. Times are in seconds since 1970.

    `state`: `running`, if a process on this machine drives it; `finished`, `interrupted` or `failed`, as its driver recorded;
    `dead`, if the driver disappeared without a record; `unreadable`, for the reason in `remark`. `num_trials`: its budget at the
    start, without finalists; 0 if an earlier version did not record it. `best`: the `objective` of the chosen student.
    """

    launch: str
    study: str = ""
    state: str
    num_done: int = 0
    num_running: int = 0
    num_trials: int = 0
    objective: str = ""
    best: float | None = None
    begun: float = 0.0
    last_sign: float = 0.0
    remark: str = ""


def overviews(storage: str) -> list[LaunchOverview]:
    """Every launch in `storage`, a folder or a URI, latest first.

    A URI does not show whether a driver is alive, so a launch whose end is not recorded counts as running there. ConfigError if
    the URI cannot be read.
    """
    found = _in_storage(Storage(storage)) if "://" in storage else _in_folder(folder_path(storage, "--storage"))
    return sorted(found, key=lambda overview: (-overview.last_sign, overview.launch))


def find_overviews(storage: str, named: Path | None = None) -> list[LaunchOverview]:
    """`overviews`, limited to the launches of the study `named`, wherever its storage is, or to the launch `named`."""
    if named is None:
        return overviews(storage)
    file = study_file(named)
    study = load_study(file)
    found = overviews(str(study.local) if storage == RUNS else storage)
    launch = launch_of(file)
    return [overview for overview in found if launch in (None, overview.launch) and overview.study == study.name]


def overview_of(name: str, events: Sequence[Event], *, is_driven: bool) -> LaunchOverview:
    """The overview of the launch `name`, from the `events` of its journal. ConfigError if they are not those of a launch."""
    launch = launch_from_journal(events, name)
    start = next(event for event in events if isinstance(event, LaunchStart))
    chosen = launch.chosen
    return LaunchOverview(
        launch=name,
        study=_study_name(start),
        state=RUNNING if is_driven else _last_state(events),
        num_done=sum(trial.is_over for trial in launch.searched),
        num_running=launch.count(None) if is_driven else 0,
        num_trials=int(start.params.get("num_trials", 0)),
        objective=launch.objective,
        best=None if chosen is None else chosen.at_best(launch.objective, launch.objective),
        begun=start.time,
        last_sign=events[-1].time,
    )


def overview_table(found: Sequence[LaunchOverview]) -> str:
    """One line per launch below the headings, and how to continue launches that did not finish."""
    if not found:
        return "no launches; start one with: cpsc-tune sweep STUDY"
    rows = [HEADINGS, *map(_row, found)]
    widths = [max(len(row[column]) for row in rows) for column in range(len(HEADINGS))]
    lines = ["  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in rows]
    if any(overview.state in GO_ON for overview in found):
        lines.append(f"continue an {', '.join(GO_ON[:-1])} or {GO_ON[-1]} launch with: cpsc-tune resume LAUNCH")
    return "\n".join(lines)


def overview_figures(overview: LaunchOverview) -> dict[str, Any]:
    """The overview as one JSON-compatible value, for scripts."""
    return dict(vars(overview))


def _in_folder(folder: Path) -> list[LaunchOverview]:
    return [_read(launch.name, launch, is_driven=FileLock(launch / LOCK_NAME).is_held()) for launch in launches_in(folder)]


def _in_storage(storage: Storage) -> list[LaunchOverview]:
    found = []
    for name in storage.names():
        if storage.exists(f"{name}/{JOURNAL_FILE}"):
            with storage.reading(storage.path(f"{name}/{JOURNAL_FILE}")) as copy:
                overview = _read(name, copy.parent, is_driven=False)
                found.append(_read(name, copy.parent, is_driven=True) if overview.state == DEAD else overview)
    return found


def _read(name: str, folder: Path, *, is_driven: bool) -> LaunchOverview:
    try:
        return overview_of(name, list(Journal(folder).events()), is_driven=is_driven)
    except ConfigError as error:
        return LaunchOverview(launch=name, state=UNREADABLE, remark=str(error))
    except (LookupError, ValueError):
        return LaunchOverview(launch=name, state=UNREADABLE, remark=f"{JOURNAL_FILE} lacks records that a launch has")


def _last_state(events: Sequence[Event]) -> str:
    """The state that the last driver recorded at its end, or `DEAD` if it did not."""
    last = next((event for event in reversed(events) if isinstance(event, LaunchEnd | AttemptStart)), None)
    if not isinstance(last, LaunchEnd) or is_afterword(last):
        return DEAD
    return STATES.get(last.status, last.status.lower())


def _study_name(start: LaunchStart) -> str:
    try:
        content = load_yaml(start.study)
    except ConfigError:
        return ""
    return str(content.get("name", "")) if isinstance(content, dict) else ""


def _row(overview: LaunchOverview) -> tuple[str, ...]:
    if overview.state == UNREADABLE:
        return (overview.launch, "", f"{UNREADABLE}: {overview.remark}", "", "", "")
    of_all = f" of {overview.num_trials}" if overview.num_trials >= overview.num_done else ""
    running = f", {overview.num_running} running" if overview.num_running else ""
    best = "-" if overview.best is None else f"{percent(overview.best)} {overview.objective}"
    heard = time.strftime("%Y-%m-%d %H:%M", time.localtime(overview.last_sign))
    return (overview.launch, overview.study, overview.state, f"{overview.num_done}{of_all}{running}", best, heard)
