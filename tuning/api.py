"""The Python API, for notebooks and scripts: what the command line does, returning values instead of text."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, fields
from pathlib import Path
from typing import Any

import pandas as pd

from tuning.display import Display
from tuning.launch import reference
from tuning.report import read_criteria, read_launch, write_report
from tuning.report.criteria import CriterionRank
from tuning.report.parquet import trial_columns, trial_rows
from tuning.report.watching import default_show, source_of, watch_launch
from tuning.results import Launch, SweepSummary
from tuning.study import Study
from tuning.study.user_code import look_in
from tuning.sweep import check_sweep, close_dead_launches, resume_sweep, run_sweep
from tuning.trial import local as local_trial


def load_study(path: str | Path, overrides: Sequence[str] = ()) -> Study:
    """Read and check a study.

    `path`: a study file, a name listed by ``cpsc-tune studies``, or a launch (its folder, or its name in ``runs``), which gives the
    study as that launch recorded it. `overrides`: assignments as after ``--set``, e.g. ``["epochs=3"]``.
    ConfigError names file, path, value and rule in one line.
    """
    file = reference.study_file(Path(path))
    look_in([file.parent])
    return reference.load_study(file, list(overrides))


def run_study(study: Study, *, address: str | None = None, quiet: bool = False, force: bool = False) -> SweepSummary:
    """Run `study` to its end, like ``cpsc-tune sweep`` -> what it found, and where the chosen student is registered.

    `address`: a Ray cluster; default: this machine. `force`: continue even if the teacher or its probe set is refused.
    ConfigError if the study cannot run, before anything starts. InterruptedSweepError if the sweep was stopped; its message says
    how to resume.
    """
    check_sweep(study, address)
    close_dead_launches(study.local)
    return run_sweep(study, Display(quiet=quiet), address=address, force=force)


def resume_study(
    launch: str, storage: str | Path = "runs", overrides: Sequence[str] = (), *, address: str | None = None, quiet: bool = False
) -> SweepSummary:
    """Continue the launch `launch` in `storage`, like ``cpsc-tune resume`` -> what it found."""
    return resume_sweep(str(storage), launch, Display(quiet=quiet), overrides=list(overrides), address=address)


def run_trial(
    study: Study, point: Mapping[str, Any] | None = None, *, epochs: int | None = None, quiet: bool = False
) -> list[dict[str, Any]]:
    """Run one trial in this process, without Ray -> its metrics, one dictionary per epoch.

    `point`: values by dotted path that override the study's first start point. `epochs`: stop after this many.
    DivergedError if the trial diverges.
    """
    return local_trial.run_trial(study, study.first_point | dict(point or {}), Display(quiet=quiet), max_epochs=epochs)


def load_results(study: Study, launch: str | None = None, *, quiet: bool = False) -> Launch:
    """Load what a launch of `study` (default: the latest) has recorded in MLflow: trials, best first, with all metrics' curves.

    Works while the launch runs, and on a machine that can reach only the store. ConfigError if there is no such launch.
    """
    return read_launch(study, launch, Display(quiet=quiet))[1]


def watch(study: Study, launch: str | None = None, *, every_s: float = 2.0) -> Launch:
    """Watch a launch of `study` (default: the latest) that another process or thread runs -> the launch in its last known state.

    In a notebook, a leaderboard is refreshed in place; elsewhere, a line is printed whenever something changes. Looks every
    `every_s` seconds. Returns when the launch ends or when you interrupt it, which does not affect the launch.
    ConfigError if there is no such launch.
    """
    return watch_launch(source_of(study, launch), default_show(), every_s=every_s)


def trials_frame(launch: Launch) -> pd.DataFrame:
    """The launch's trials as a table, best first: the columns of trials.parquet, plus one per searched parameter."""
    rows = [row | dict(trial.point) for row, trial in zip(trial_rows(launch), launch.trials, strict=True)]
    return pd.DataFrame(rows, columns=trial_columns(launch))


def write_page(study: Study, folder: str | Path, launch: str | None = None, *, quiet: bool = False) -> Path:
    """Write report.html and the Parquet tables to `folder`, like ``cpsc-tune report --output`` -> path of the page."""
    display = Display(quiet=quiet)
    client, found = read_launch(study, launch, display)
    criteria = read_criteria(client, found, display)
    return write_report(study, found, criteria, client, Path(folder), display).page


def criteria_frame(study: Study, launches: Sequence[str | None] = (None,), *, quiet: bool = False) -> pd.DataFrame:
    """How well each criterion ranks the students of each launch, measured against their test accuracy.

    `launches`: names of launches; None means the latest. One row per launch and criterion, with the columns `study`, `launch`,
    `criterion`, `num_students`, `spearman`, `wrong_pairs` and `regret`. A launch without labelled images has no rows.
    """
    display = Display(quiet=quiet)
    rows = []
    for name in launches:
        client, found = read_launch(study, name, display)
        rows += [{"study": found.study, "launch": found.name} | asdict(rank) for rank in read_criteria(client, found, display)]
    return pd.DataFrame(rows, columns=["study", "launch", *(field.name for field in fields(CriterionRank))])
