"""A launch in Weights & Biases: one run per trial and one for the launch itself, all in a group with the launch's name."""

import ast
import contextlib
import glob
import importlib
import io
import os
import re
import shlex
import shutil
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mlflow import MlflowClient
from PIL import Image

from cpsc.errors import ConfigError
from tuning.display import Display
from tuning.outcome import Outcome
from tuning.process_settings import environment_kept
from tuning.redaction import reason, redact
from tuning.report.console import summary_lines
from tuning.report.files import writing_to
from tuning.report.parquet import Row, trial_columns, trial_rows
from tuning.report.pictures import pictures_of
from tuning.results import Launch, TrialRecord
from tuning.study.nested_keys import set_path
from tuning.tracking.client import using_mlflow
from tuning.tracking.translation import run_name

NAME = r"[^/\\#?%:\s](?:[^/\\#?%:]{0,126}[^/\\#?%:\s])?"
"""Pattern of a project's name that W&B allows."""
DESTINATION = re.compile(rf"(?:(?P<entity>{NAME})/)?(?P<project>{NAME})")
FOLDER_VARIABLE = "WANDB_DIR"
LOCAL_FOLDER = "wandb"
"""Name of the subfolder in which W&B keeps its runs."""
SETTINGS = {
    "console": "off",  # what this program prints is not output of the trials
    "silent": True,
    "disable_git": True,  # the report may be made outside the repository that the trials ran from
    "save_code": False,
    "x_disable_stats": True,  # and on another machine
    "x_disable_meta": True,
    "x_disable_machine_info": True,
    "x_save_requirements": False,
}
BROKEN = (Outcome.DIVERGED, Outcome.FAILED)
"""Outcomes that W&B shows as failed. It has no state for a pruned run, which is shown as finished, with a tag."""


@dataclass(frozen=True)
class Destination:
    """The project that the runs go to. `entity`: a user or team; None: W&B's default."""

    project: str
    entity: str | None = None


def parse_destination(text: str) -> Destination:
    """Parse ``PROJECT`` or ``ENTITY/PROJECT``. ConfigError if it is neither, or if wandb is not installed."""
    found = DESTINATION.fullmatch(text)
    if found is None:
        raise ConfigError(f"--wandb: must be PROJECT or ENTITY/PROJECT, with names without any of \\ # ? % :, got {text!r}")
    _wandb()
    return Destination(found["project"], found["entity"])


@using_mlflow()
def export_to_wandb(launch: Launch, client: MlflowClient, destination: Destination, folder: Path, display: Display) -> str:
    """Send the runs of `launch`, or write them to disk if W&B is offline -> where they are, in one line.

    A run's ID is made of the launch's ID and the trial's number, so a second export replaces the first. What W&B keeps on this
    machine goes to `folder`, unless WANDB_DIR names another. ConfigError if W&B refuses the runs.
    """
    wandb = _wandb()
    rows = trial_rows(launch)
    with writing_to(folder):
        _remove_earlier(folder / LOCAL_FOLDER, launch)
    with _refusals_in_a_line(wandb), environment_kept():  # it sets a variable for its child processes
        open_run = _RunOpener(wandb, launch, destination, None if FOLDER_VARIABLE in os.environ else folder)
        for trial, row in display.track("W&B runs", zip(launch.trials, rows, strict=True), len(rows)):
            _write_trial(open_run, trial, row, client)
        return _write_launch(open_run, rows)


@dataclass(frozen=True)
class _RunOpener:
    """Opens runs of one launch. `folder`: where W&B keeps them; None: where WANDB_DIR says."""

    wandb: Any
    launch: Launch
    destination: Destination
    folder: Path | None

    @contextlib.contextmanager
    def __call__(self, number: int | None, *, is_broken: bool = False, **about: Any) -> Iterator[Any]:
        """Yields the run of a trial or, for None, of the launch; finishes it after the block, as failed if `is_broken`."""
        run = self.wandb.init(
            project=self.destination.project,
            entity=self.destination.entity,
            dir=None if self.folder is None else str(self.folder),
            id=run_id(self.launch, number),
            group=self.launch.name,
            settings=self.wandb.Settings(**SETTINGS),
            reinit="create_new",  # does not end a run of the user's notebook
            **about,
        )
        try:
            yield run
        except BaseException:
            run.finish(exit_code=1)
            raise
        run.finish(exit_code=int(is_broken))


def run_id(launch: Launch, number: int | None) -> str:
    """ID of a trial's run or, for None, of the launch's own; the same in every export."""
    return f"{launch.launch_id or launch.run_id}-{'launch' if number is None else f'{number:04d}'}"


def _write_trial(open_run: _RunOpener, trial: TrialRecord, row: Row, client: MlflowClient) -> None:
    outcome = trial.state
    about: dict[str, Any] = {
        "name": run_name(trial.number, trial.point, trial.finalist_of),
        "job_type": "trial" if trial.finalist_of is None else "finalist",
        "tags": [outcome, "chosen"] if trial is open_run.launch.chosen else [outcome],
        "config": config_of(trial),
    }
    pictures = {
        f"pictures/{picture.name}": open_run.wandb.Image(Image.open(io.BytesIO(picture.content)), caption=picture.caption)
        for picture in pictures_of(client, trial)
    }
    with open_run(trial.number, is_broken=trial.outcome in BROKEN, **about) as run:
        run.define_metric("epoch", hidden=True)
        run.define_metric("*", step_metric="epoch")
        for epoch, row_of_epoch in _rows(trial):
            run.log(row_of_epoch | (pictures if epoch == trial.num_epochs else {}), step=epoch)
        result = {name: row[name] for name in ("reason", "rank", "objective", "best_epoch")}
        result |= {"outcome": outcome, "best_score": row[open_run.launch.objective]}
        run.summary.update({name: value for name, value in result.items() if value is not None})


def _write_launch(open_run: _RunOpener, rows: Sequence[Row]) -> str:
    launch = open_run.launch
    about: dict[str, Any] = {
        "name": launch.name,
        "job_type": "launch",
        "config": {"study": launch.study, "objective": launch.objective, "epochs": launch.epochs},
        "notes": redact("\n".join(summary_lines(launch, []))),
    }
    with open_run(None, **about) as run:
        run.log({"leaderboard": open_run.wandb.Table(*_leaderboard(launch, rows))})
        chosen = {} if launch.chosen is None else {"chosen": launch.chosen.number}
        run.summary.update({"trials": len(rows)} | chosen)
    return _where(run, open_run)


def _where(run: Any, open_run: _RunOpener) -> str:
    """Where the runs are; if that is only this machine, also how to send them. `run`: the last of them."""
    group = f"W&B: group {open_run.launch.name} of project {open_run.destination.project}"
    if not run.offline:
        return redact(f"{group}, {run.project_url}")
    runs = shlex.quote(str(Path(run.dir).parent.parent))
    return f"{group} is offline in {runs}; send it with: wandb sync {runs}/offline-run-*"


def config_of(trial: TrialRecord) -> dict[str, Any]:
    """All values that the trial ran with, nested as in a study file, searched ones first, with secrets redacted."""
    facts = {path: _typed(text) for path, text in trial.params.items() if path not in trial.point}
    nested: dict[str, Any] = {}
    for path, value in (*trial.point.items(), *facts.items()):
        plain = redact(value) if isinstance(value, str) else value
        try:
            set_path(nested, path, plain)
        except ConfigError:  # its path leads through another value
            nested[path] = plain
    return nested


def _typed(text: str) -> Any:
    """Convert `text` to the number, truth value or None that it spells; other texts stay as they are."""
    try:
        value = ast.literal_eval(text)
    except (ValueError, SyntaxError):
        return text
    return value if isinstance(value, int | float | None) else text


def _rows(trial: TrialRecord) -> Iterator[tuple[int, dict[str, Any]]]:
    """What was measured at each epoch, and when it was reported."""
    for epoch, metrics in trial.by_epoch():
        told = {"_timestamp": trial.course.reported[epoch]} if epoch in trial.course.reported else {}
        yield epoch, {**metrics, "epoch": epoch, **told}


def _leaderboard(launch: Launch, rows: Sequence[Row]) -> tuple[list[str], list[list[Any]]]:
    """Columns and cells: those of trials.parquet and the searched values."""
    columns = trial_columns(launch)
    found = [row | dict(trial.point) for row, trial in zip(rows, launch.trials, strict=True)]
    return columns, [[_plain(row.get(name)) for name in columns] for row in found]


def _plain(value: Any) -> Any:
    return value if isinstance(value, int | float | str | None) else str(value)


def _remove_earlier(folder: Path, launch: Launch) -> None:
    """Remove the offline runs that an earlier export of the launch left in `folder`."""
    for number in [None, *(trial.number for trial in launch.trials)]:
        for earlier in folder.glob(f"offline-run-*-{glob.escape(run_id(launch, number))}"):
            shutil.rmtree(earlier)


def _wandb() -> Any:
    try:
        return importlib.import_module("wandb")
    except ImportError as error:
        raise ConfigError("--wandb: needs the package wandb, install it with: pip install 'cpsc-tune[wandb]'") from error


@contextlib.contextmanager
def _refusals_in_a_line(wandb: Any) -> Iterator[None]:
    try:
        yield
    except (wandb.Error, OSError) as error:
        way_out = "log in with: wandb login, or write the runs to this disk with WANDB_MODE=offline"
        raise ConfigError(f"--wandb: W&B refused the runs ({reason(error)}); {way_out}") from error
