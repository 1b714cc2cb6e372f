"""The report as files, which are also logged to the launch's run, where MLflow's UI shows them."""

import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from mlflow import MlflowClient

from cpsc.errors import ConfigError
from tuning.display import Display
from tuning.launch.folder import STUDY_FILE
from tuning.redaction import reason
from tuning.report.comparison import write_comparison
from tuning.report.criteria import CriterionRank
from tuning.report.launch_page import write_study_page
from tuning.report.links import run_link
from tuning.report.parquet import write_tables
from tuning.results import Launch
from tuning.study import Study
from tuning.study.config import load_recorded_study
from tuning.study.names import NAME
from tuning.tracking.client import FAILURES, store_uri, storing_artifacts, using_mlflow
from tuning.tracking.retry import PATIENCE_S, Patience

PAGE_FILE = "report.html"
COMPARISON_FILE = "compare.html"
ARTIFACT_FOLDER = "report"


@dataclass(frozen=True)
class WrittenReport:
    """The page, with the tables beside it. `refusal`: why they could not be logged to MLflow; empty if they were."""

    page: Path
    refusal: str


def report_folder(study: Study, launch: Launch) -> Path:
    """Default folder of the launch's report. ConfigError if its name, which is read from a store, cannot be a folder's name."""
    if not NAME.fullmatch(launch.name):
        raise ConfigError(f"launch {launch.name!r}: cannot be the name of a folder; say with --output where the report goes")
    return study.local / launch.name / ARTIFACT_FOLDER


@using_mlflow()
def write_report(
    study: Study, launch: Launch, criteria: Sequence[CriterionRank], client: MlflowClient, folder: Path, display: Display
) -> WrittenReport:
    """Write page and tables to `folder`, and log them to the launch's run. ConfigError if `folder` cannot be written.

    `study` names the store; the page shows the study as the launch recorded it.
    """
    as_run = recorded_study(study, launch, client)
    page = folder / PAGE_FILE
    with writing_to(folder):
        write_study_page(page, as_run, launch, criteria, client, display, run_link(client, launch, store_uri(study)))
        files = [page, *write_tables([launch], folder)]
    return WrittenReport(page, _log(client, launch, files))


def write_comparison_files(launches: Sequence[Launch], folder: Path) -> Path:
    """Write the page that compares `launches`, and the tables of all, to `folder` -> the page. ConfigError if that fails."""
    page = folder / COMPARISON_FILE
    with writing_to(folder):
        write_comparison(page, launches)
        write_tables(launches, folder)
    return page


@contextmanager
def writing_to(folder: Path) -> Iterator[None]:
    """Make `folder` for the block. A one-line ConfigError if it cannot be made, or the block cannot write to it."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
        yield
    except OSError as error:
        raise ConfigError(f"--output: {folder} cannot be written ({reason(error)}); name another folder") from error


@using_mlflow()
def recorded_study(study: Study, launch: Launch, client: MlflowClient) -> Study:
    """The study as the launch ran it, if its run has the file; the study file itself may have been edited since."""
    with tempfile.TemporaryDirectory(prefix="cpsc-") as folder:
        try:
            file = client.download_artifacts(launch.run_id, STUDY_FILE, folder)
            return load_recorded_study(Path(file), [])
        except (*FAILURES, ConfigError):  # the file is missing, or from an earlier version
            return study


def _log(client: MlflowClient, launch: Launch, files: Sequence[Path]) -> str:
    patience = Patience(PATIENCE_S)
    try:
        with storing_artifacts():
            for file in files:
                patience.ask(client.log_artifact, launch.run_id, str(file), ARTIFACT_FOLDER)
    except FAILURES as error:
        return reason(error)
    return ""
