"""MLflow client: where a study's store is, limits on requests, and what may go wrong."""

import contextlib
import logging
import os
from collections.abc import Iterator
from pathlib import Path

import mlflow
from google.protobuf.json_format import ParseError
from mlflow import MlflowClient
from mlflow.entities import Experiment
from mlflow.exceptions import InvalidUrlException, MlflowException
from sqlalchemy import make_url
from sqlalchemy.exc import SQLAlchemyError

from cpsc.errors import CheckpointError, ConfigError
from tuning.process_settings import log_levels, unless_set, variables
from tuning.redaction import reason, redact
from tuning.sqlite import sqlite_uri
from tuning.study import Study
from tuning.tracking.answers import checking_answers
from tuning.tracking.store_file import DATABASE_FILE as STORE_FILE
from tuning.tracking.store_file import ensure_store_file, holds_anything

HTTP_TIMEOUT, HTTP_TIMEOUT_S = "MLFLOW_HTTP_REQUEST_TIMEOUT", "10"
SILENCE = {"MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT": "true"}
"""At each run's end MLflow would print the server's address, password and all."""
LOG_LEVELS = {
    "mlflow": logging.WARNING,  # it narrates the making of its tables
    "mlflow.store.db.utils": logging.CRITICAL,  # tracebacks of what is said in a line
}
ARTIFACT_TIMEOUT_S = 120
FAILURES = (MlflowException, SQLAlchemyError, CheckpointError, OSError)
"""What a server, a database, or the storage of artifacts and checkpoints may answer with."""
DATABASES = ("postgresql", "mysql", "mssql")
"""What MLflow writes to without a server in between, beside SQLite."""


def store_uri(study: Study) -> str:
    """The study's MLflow store: the server it names, or SQLite on the driver's disk, by absolute path.

    Trials run in folders of their own, where a relative address would make a store of its own.
    """
    return study.tracking.uri or sqlite_uri(study.local / STORE_FILE)


def ensure_store(study: Study) -> None:
    """Make the study's store where that is a file and there is none, or one that was left half-made.

    OSError or ConfigError where it cannot be written.
    """
    uri = store_uri(study)
    if not uri.startswith("sqlite"):
        return
    url = make_url(uri)
    if url.database and url.database != ":memory:":
        ensure_store_file(
            Path(url.database),
            lambda path: url.set(database=str(path)).render_as_string(hide_password=False),
            artifacts=study.local / "mlflow-artifacts",
        )


def existing_store_uri(study: Study) -> str:
    """The same, for reading: ConfigError where no sweep has written a store yet, instead of making an empty one."""
    if study.tracking.uri is None and not holds_anything(study.local / STORE_FILE):  # where it was left half-made, too
        raise ConfigError(f"storage: {study.local} holds no MLflow store yet, run the study's sweep first")
    return store_uri(study)


def artifact_location(study: Study) -> str | None:
    """Where artifacts go beside a database, for MLflow would take the current folder; a server decides for itself."""
    is_server = (study.tracking.uri or "").startswith(("http://", "https://", "databricks"))
    return None if is_server else (study.local / "mlflow-artifacts" / study.name).as_uri()


def check_tracking(study: Study) -> None:
    """ConfigError where the study's store could never be used: no such kind, no driver for it here, its experiment is deleted.

    One that is away is no reason to refuse: what it misses is delivered later.
    """
    if study.tracking.uri is None and not (study.local / STORE_FILE).exists():
        return
    uri = store_uri(study)
    try:
        with using_mlflow():
            ensure_store(study)
            experiment = _experiment_at_hand(uri, study.name)
    except (MlflowException, SQLAlchemyError, ImportError, ValueError, OSError) as error:
        raise ConfigError(f"tracking.uri: {redact(uri)} is nothing that MLflow can write to ({reason(error)})") from error
    if experiment is not None and experiment.lifecycle_stage == "deleted":
        raise ConfigError(deleted_experiment_message(experiment))


def _experiment_at_hand(uri: str, name: str) -> Experiment | None:
    """The experiment, if there is one and it can be seen now."""
    scheme = uri.partition(":")[0].partition("+")[0]
    if scheme in DATABASES:  # MLflow would try to connect for minutes
        make_url(uri).get_dialect().import_dbapi()
        return None
    client = MlflowClient(tracking_uri=uri)
    try:
        return client.get_experiment_by_name(name)
    except InvalidUrlException:
        raise
    except (*FAILURES, ParseError):
        return None


@contextlib.contextmanager
def using_mlflow() -> Iterator[None]:
    """Within the block MLflow's client asks once, waits ten seconds, believes no answer that is none, and tells nothing by itself.

    Once: whoever asks has a patience of its own, and a request that is sent twice makes two runs.
    """
    limits = {
        "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "0",
        HTTP_TIMEOUT: HTTP_TIMEOUT_S,
        "MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR": "false",
    }
    with variables(unless_set(limits) | SILENCE), log_levels(LOG_LEVELS), checking_answers():
        yield


@contextlib.contextmanager
def tracking_at(uri: str) -> Iterator[None]:
    """Within the block `uri` is MLflow's current store, which a database's registry takes for that of a logged model."""
    before = mlflow.get_tracking_uri() if mlflow.is_tracking_uri_set() else None
    mlflow.set_tracking_uri(uri)
    try:
        yield
    finally:
        mlflow.set_tracking_uri(before)


@contextlib.contextmanager
def reading_store(uri: str) -> Iterator[None]:
    """ConfigError, in a line, where the MLflow store at `uri` fails inside the block."""
    try:
        yield
    except (*FAILURES, ImportError, KeyError, ValueError) as error:  # it may be any database, and any server
        raise ConfigError(f"tracking: {redact(uri)} cannot be read as an MLflow store ({reason(error)})") from error


@contextlib.contextmanager
def checking_answer() -> Iterator[None]:
    """An answer that MLflow's client stumbles over is a failure like one that did not come."""
    try:
        yield
    except FAILURES:
        raise
    except (ValueError, KeyError, TypeError, AttributeError, ParseError) as error:
        raise MlflowException(f"the answer cannot be read ({reason(error)})") from error


@contextlib.contextmanager
def storing_artifacts() -> Iterator[None]:
    """The server answers once it has passed a whole file on to its own storage: that may take longer than a metric does."""
    limit = max(int(os.environ.get(HTTP_TIMEOUT, HTTP_TIMEOUT_S)), ARTIFACT_TIMEOUT_S)
    try:
        with variables({HTTP_TIMEOUT: str(limit)}):
            yield
    except FAILURES:
        raise
    except Exception as error:  # each kind of artifact storage brings a library with exceptions of its own
        raise MlflowException(f"artifacts cannot be stored: {error}") from error


def deleted_experiment_message(experiment: Experiment) -> str:
    return (
        f"experiment {experiment.name!r} is deleted on the tracking server: give the study another name, or take it back with: "
        f"mlflow experiments restore --experiment-id {experiment.experiment_id}"
    )
