"""The report as files, and in the launch's own run, where MLflow's UI shows it."""

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
    """The page, whose tables lie beside it; why they are not in MLflow, empty where they are."""

    page: Path
    refusal: str


def report_folder(study: Study, launch: Launch) -> Path:
    """Where the launch's report is written if nobody says. ConfigError where its name, which a store may hold, is no name."""
    if not NAME.fullmatch(launch.name):
        raise ConfigError(f"launch {launch.name!r}: is no folder's name, say where the report goes by --output")
    return study.local / launch.name / ARTIFACT_FOLDER


@using_mlflow()
def write_report(
    study: Study, launch: Launch, criteria: Sequence[CriterionRank], client: MlflowClient, folder: Path, display: Display
) -> WrittenReport:
    """Write page and tables to `folder`, and log them to the launch's run. ConfigError where `folder` cannot be written.

    `study` names the store; what is drawn is the study as the launch has recorded it.
    """
    as_run = recorded_study(study, launch, client)
    page = folder / PAGE_FILE
    with writing_to(folder):
        write_study_page(page, as_run, launch, criteria, client, display, run_link(client, launch, store_uri(study)))
        files = [page, *write_tables([launch], folder)]
    return WrittenReport(page, _log(client, launch, files))


def write_comparison_files(launches: Sequence[Launch], folder: Path) -> Path:
    """Write the page that compares `launches`, and the tables of all, to `folder` -> the page. ConfigError where that fails."""
    page = folder / COMPARISON_FILE
    with writing_to(folder):
        write_comparison(page, launches)
        write_tables(launches, folder)
    return page


@contextmanager
def writing_to(folder: Path) -> Iterator[None]:
    """ConfigError, in a line, where `folder` cannot be made, or the block cannot write to it."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
        yield
    except OSError as error:
        raise ConfigError(f"--output: {folder} cannot be written ({reason(error)})") from error


@using_mlflow()
def recorded_study(study: Study, launch: Launch, client: MlflowClient) -> Study:
    """The study as the launch ran it, where its run has the file: the one at hand may have been edited since."""
    with tempfile.TemporaryDirectory(prefix="cpsc-") as folder:
        try:
            file = client.download_artifacts(launch.run_id, STUDY_FILE, folder)
            return load_recorded_study(Path(file), [])
        except (*FAILURES, ConfigError):  # it is not there, or an earlier version wrote it
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
