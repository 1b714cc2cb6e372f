"""MLflow client: where a study's store is, timeouts of requests, and error handling."""

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
"""At each run's end MLflow would print the server's address, including its password."""
LOG_LEVELS = {
    "mlflow": logging.WARNING,  # it logs every step of making its tables
    "mlflow.store.db.utils": logging.CRITICAL,  # tracebacks of errors that are reported in one line
}
ARTIFACT_TIMEOUT_S = 120
FAILURES = (MlflowException, SQLAlchemyError, CheckpointError, OSError)
"""Exceptions of a server, a database, or the storage of artifacts and checkpoints."""
DATABASES = ("postgresql", "mysql", "mssql")
"""Databases, besides SQLite, that MLflow writes to without a server in between."""


def store_uri(study: Study) -> str:
    """The study's MLflow store: the server it names, or SQLite on the driver's disk, with an absolute path.

    Trials run in folders of their own, where a relative path would create another store.
    """
    return study.tracking.uri or sqlite_uri(study.local / STORE_FILE)


def ensure_store(study: Study) -> None:
    """Make the study's store if it is a file that does not exist, or that was left half-made.

    OSError or ConfigError if it cannot be written.
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
    """The study's MLflow store, for reading: ConfigError if no sweep has written to it yet, rather than making an empty one."""
    if study.tracking.uri is None and not holds_anything(study.local / STORE_FILE):  # also if it was left half-made
        raise ConfigError(f"storage: {study.local} holds no MLflow store yet; run the study's sweep first")
    return store_uri(study)


def artifact_location(study: Study) -> str | None:
    """Where artifacts go if the store is a database, because MLflow would use the current folder; None: a server decides itself."""
    is_server = (study.tracking.uri or "").startswith(("http://", "https://", "databricks"))
    return None if is_server else (study.local / "mlflow-artifacts" / study.name).as_uri()


def check_tracking(study: Study) -> None:
    """Raise ConfigError if the study's store can never be used: unknown kind, missing driver, or deleted experiment.

    A store that cannot be reached now is accepted: what it misses is delivered later.
    """
    if study.tracking.uri is None and not (study.local / STORE_FILE).exists():
        return
    uri = store_uri(study)
    try:
        with using_mlflow():
            ensure_store(study)
            experiment = _experiment_at_hand(uri, study.name)
    except (MlflowException, SQLAlchemyError, ImportError, ValueError, OSError) as error:
        raise ConfigError(f"tracking.uri: MLflow cannot write to {redact(uri)} ({reason(error)})") from error
    if experiment is not None and experiment.lifecycle_stage == "deleted":
        raise ConfigError(deleted_experiment_message(experiment))


def _experiment_at_hand(uri: str, name: str) -> Experiment | None:
    """The experiment, if it exists and the store can be reached now."""
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
    """Inside the block, MLflow's client sends each request once, waits ten seconds, checks the answer, and prints nothing.

    Once, because callers have their own retries (`Patience`), and a request that is sent twice makes two runs.
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
    """Make `uri` MLflow's current store inside the block; a database's registry looks for logged models there."""
    before = mlflow.get_tracking_uri() if mlflow.is_tracking_uri_set() else None
    mlflow.set_tracking_uri(uri)
    try:
        yield
    finally:
        mlflow.set_tracking_uri(before)


@contextlib.contextmanager
def reading_store(uri: str) -> Iterator[None]:
    """Raise a one-line ConfigError if the MLflow store at `uri` fails inside the block."""
    try:
        yield
    except (*FAILURES, ImportError, KeyError, ValueError) as error:  # the URI may be any database or server
        raise ConfigError(f"tracking: {redact(uri)} cannot be read as an MLflow store ({reason(error)})") from error


@contextlib.contextmanager
def checking_answer() -> Iterator[None]:
    """Turn an answer that MLflow's client cannot parse into the same kind of failure as a missing answer."""
    try:
        yield
    except FAILURES:
        raise
    except (ValueError, KeyError, TypeError, AttributeError, ParseError) as error:
        raise MlflowException(f"the answer cannot be read ({reason(error)})") from error


@contextlib.contextmanager
def storing_artifacts() -> Iterator[None]:
    """Allow a longer timeout inside the block: a server answers only after it has passed the whole file on to its storage."""
    limit = max(int(os.environ.get(HTTP_TIMEOUT, HTTP_TIMEOUT_S)), ARTIFACT_TIMEOUT_S)
    try:
        with variables({HTTP_TIMEOUT: str(limit)}):
            yield
    except FAILURES:
        raise
    except Exception as error:  # each kind of artifact storage has a library with its own exceptions
        raise MlflowException(f"artifacts cannot be stored: {error}") from error


def deleted_experiment_message(experiment: Experiment) -> str:
    return (
        f"experiment {experiment.name!r} is deleted on the tracking server: give the study another name, or restore it with: "
        f"mlflow experiments restore --experiment-id {experiment.experiment_id}"
    )
