"""The verbs for a notebook: what the command line does, from Python, with values instead of text."""

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
    """Read and check a study: a file's path, the name of one that ``cpsc-tune studies`` lists, or a launch's folder or its name in
    ``runs``, whose study it then is as it was recorded; `overrides` as after ``--set``.

    ConfigError: file, path, value and rule in one line.
    """
    file = reference.study_file(Path(path))
    look_in([file.parent])
    return reference.load_study(file, list(overrides))


def run_study(study: Study, *, address: str | None = None, quiet: bool = False, force: bool = False) -> SweepSummary:
    """Run `study` as ``cpsc-tune sweep`` does, to its end -> what it found, and where the chosen student is registered.

    `address`: a Ray cluster; default: this machine. `force`: go on where the teacher or its probe set is refused.
    ConfigError before anything starts where it cannot run; InterruptedSweepError, which names the way to go on, where it was
    stopped.
    """
    check_sweep(study, address)
    close_dead_launches(study.local)
    return run_sweep(study, Display(quiet=quiet), address=address, force=force)


def resume_study(
    launch: str, storage: str | Path = "runs", overrides: Sequence[str] = (), *, address: str | None = None, quiet: bool = False
) -> SweepSummary:
    """Go on with the launch of that name, as ``cpsc-tune resume`` does."""
    return resume_sweep(str(storage), launch, Display(quiet=quiet), overrides=list(overrides), address=address)


def run_trial(
    study: Study, point: Mapping[str, Any] | None = None, *, epochs: int | None = None, quiet: bool = False
) -> list[dict[str, Any]]:
    """Run one trial in this process, without Ray -> its metrics, epoch by epoch.

    `point`: values by dotted path over the study's first starting point. DivergedError where the trial diverges.
    """
    return local_trial.run_trial(study, study.first_point | dict(point or {}), Display(quiet=quiet), max_epochs=epochs)


def load_results(study: Study, launch: str | None = None, *, quiet: bool = False) -> Launch:
    """What a launch of `study`, the latest by default, has recorded in MLflow: trials best first, with every metric's curve.

    Also while it runs, and on a machine that has nothing but the store. ConfigError where there is none.
    """
    return read_launch(study, launch, Display(quiet=quiet))[1]


def watch(study: Study, launch: str | None = None, *, every_s: float = 2.0) -> Launch:
    """Show a launch of `study`, the latest by default, while another process or thread runs it -> the launch as it was last.

    In a notebook a leaderboard that is refreshed in its place, elsewhere a line whenever something has changed. It ends with the
    launch, or where it is interrupted, which the launch does not notice. ConfigError where there is none.
    """
    return watch_launch(source_of(study, launch), default_show(), every_s=every_s)


def trials_frame(launch: Launch) -> pd.DataFrame:
    """The launch's trials as a table, best first: the columns of trials.parquet, and one a searched parameter."""
    rows = [row | dict(trial.point) for row, trial in zip(trial_rows(launch), launch.trials, strict=True)]
    return pd.DataFrame(rows, columns=trial_columns(launch))


def write_page(study: Study, folder: str | Path, launch: str | None = None, *, quiet: bool = False) -> Path:
    """Write report.html and the Parquet tables to `folder`, as ``cpsc-tune report --output`` does -> the page."""
    display = Display(quiet=quiet)
    client, found = read_launch(study, launch, display)
    criteria = read_criteria(client, found, display)
    return write_report(study, found, criteria, client, Path(folder), display).page


def criteria_frame(study: Study, launches: Sequence[str | None] = (None,), *, quiet: bool = False) -> pd.DataFrame:
    """How well each criterion orders the students of each of `launches`, None: the latest, by their test accuracy.

    A row a launch and criterion: `criterion`, `num_students`, `spearman`, `wrong_pairs`, `regret`; none of a launch without labels.
    """
    display = Display(quiet=quiet)
    rows = []
    for name in launches:
        client, found = read_launch(study, name, display)
        rows += [{"study": found.study, "launch": found.name} | asdict(rank) for rank in read_criteria(client, found, display)]
    return pd.DataFrame(rows, columns=["study", "launch", *(field.name for field in fields(CriterionRank))])
