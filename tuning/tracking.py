"""Every trial in MLflow: a thread that delivers a launch's journal, while the sweep runs and however long it takes."""

import contextlib
import json
import logging
import os
import threading
import time
from collections.abc import Iterator

from mlflow import MlflowClient
from mlflow.entities import Metric, Param, RunTag
from mlflow.exceptions import MlflowException

from cpsc.errors import CheckpointError, ConfigError
from tuning.checkpoint_store import CheckpointStore
from tuning.config import Study
from tuning.journal import Event, Journal
from tuning.outcome import MLFLOW_STATUS, Outcome
from tuning.redaction import redact
from tuning.trainable import BEST_STUDENT_FILE, CONFIG_FILE, SAMPLES_FILE, STATE_FILE

logger = logging.getLogger(__name__)
logging.getLogger("mlflow").setLevel(logging.WARNING)  # it narrates the making of its tables
os.environ.setdefault("MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR", "false")

LAUNCH_TAG, LAUNCH_ID_TAG, NUMBER_TAG, OUTCOME_TAG, KIND_TAG = "launch", "launch_id", "number", "outcome", "kind"
POINT_TAG = "point"
RUNNING = "running"
"""Outcome tag of a trial that has none yet."""
MAX_TAG = 500
EXPERIMENT_TAGS = {"mlflow.experimentKind": "custom_model_development"}  # the UI then opens on runs, not on chat traces
ARTIFACTS = {
    "last_and_best": (STATE_FILE, BEST_STUDENT_FILE, SAMPLES_FILE, CONFIG_FILE),
    "best": (BEST_STUDENT_FILE, SAMPLES_FILE, CONFIG_FILE),
    "none": (SAMPLES_FILE, CONFIG_FILE),
}
ARTIFACT_FOLDERS = {STATE_FILE: "checkpoint", BEST_STUDENT_FILE: "checkpoint"}
RETRY_S = 2.0
POLL_S = 0.2


def store_uri(study: Study) -> str:
    """The study's MLflow store: the server it names, or SQLite under the storage root, by absolute path.

    Trials run in folders of their own, where a relative address would make a store of its own.
    """
    return study.tracking.uri or f"sqlite:///{study.storage / 'mlflow.db'}"


def existing_store_uri(study: Study) -> str:
    """The same, for reading: ConfigError where no sweep has written a store yet, instead of making an empty one."""
    if study.tracking.uri is None and not (study.storage / "mlflow.db").exists():
        raise ConfigError(f"storage: {study.storage} holds no MLflow store yet, run the study's sweep first")
    return store_uri(study)


def checkpoint_store(study: Study, launch: str) -> CheckpointStore:
    """Where the trials of `launch` keep their checkpoints."""
    return CheckpointStore(study.checkpoint.storage, study.storage / launch)


def artifact_location(study: Study) -> str | None:
    """Where artifacts go beside a SQLite store; a server decides for itself."""
    return None if study.tracking.uri else (study.storage / "mlflow-artifacts" / study.name).as_uri()


class MlflowWriter(threading.Thread):
    """Delivers a launch's journal to MLflow, in order, until it is closed; keeps trying while the server is away.

    Meeting an event twice changes nothing: runs are found by their tags, a metric with the same step, time and
    value is stored once, artifacts are overwritten with themselves.
    """

    def __init__(self, journal: Journal, study: Study, launch: str, launch_id: str) -> None:
        super().__init__(name="mlflow-writer", daemon=True)
        # One attempt with a short pause: this thread has its own patience, and the sweep's end must not wait minutes.
        os.environ.setdefault("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "1")
        os.environ.setdefault("MLFLOW_HTTP_REQUEST_TIMEOUT", "10")
        self._journal = journal
        self._study = study
        self._launch = launch
        self._store = checkpoint_store(study, launch)
        self._launch_id = launch_id  # two users of one server may give their launches the same name
        self._client = MlflowClient(tracking_uri=store_uri(study))
        self._runs: dict[int | None, str] = {}
        self._experiment = ""
        self._is_new = False
        self._closing = threading.Event()
        self._away = False
        self._failure: Exception | None = None
        self.busy_s = 0.0
        self.undelivered = 0

    def run(self) -> None:
        try:
            self._run()
        except Exception as error:  # a bug of ours must surface where the sweep ends, not die with the thread
            self._failure = error

    def _run(self) -> None:
        while True:
            closing = self._closing.is_set()
            delivered = self._deliver_pending()
            if closing and delivered:
                return
            if closing:
                time.sleep(RETRY_S)  # the event is set and would not wait: an absent server must not be asked in a tight loop
            else:
                self._closing.wait(POLL_S if delivered else RETRY_S)
            if closing and time.monotonic() > self._deadline:
                self.undelivered = sum(1 for _ in self._journal.pending())
                return

    def close(self, *, deadline_s: float = 60.0) -> None:
        """Deliver what is left and stop; give up after `deadline_s`, the journal keeps the rest."""
        self._deadline = time.monotonic() + deadline_s
        self._closing.set()
        self.join()
        if self._failure is not None:
            raise self._failure

    def run_id(self, number: int | None = None) -> str:
        """The MLflow run of a trial, or of the launch itself."""
        run_id = self._find(number)
        if run_id is None:
            raise MlflowException(f"launch {self._launch} has no run for trial {number} in {store_uri(self._study)}")
        return run_id

    def _deliver_pending(self) -> bool:
        for event, position in self._journal.pending():
            started = time.perf_counter()
            try:
                self._deliver(event)
                self._journal.acknowledge(position)
            except (MlflowException, CheckpointError, OSError) as error:
                if not self._away:
                    logger.warning("tracking is away, metrics are kept and delivered later: %s", redact(_first_line(error)))
                self._away = True
                self._is_new = False  # a run may have been made although its answer was lost
                return False
            finally:
                self.busy_s += time.perf_counter() - started
            self._away = False
        return True

    def _deliver(self, event: Event) -> None:
        handlers = {
            "launch_start": self._launch_start,
            "attempt_start": self._attempt_start,
            "trial_start": self._trial_start,
            "epoch": self._epoch,
            "proposed": lambda event: None,  # shown once it starts
            "checkpoint": lambda event: None,  # its files go with the trial's end
            "trial_end": self._trial_end,
            "launch_end": self._launch_end,
        }
        handlers[event["kind"]](event)

    def _launch_start(self, event: Event) -> None:
        experiment = self._client.get_experiment_by_name(self._study.name)
        if experiment is None:
            self._client.create_experiment(self._study.name, artifact_location(self._study), tags=EXPERIMENT_TAGS)
        run_id = self._find(None) or self._create(event, None, self._launch, {KIND_TAG: "launch"})
        params = [Param(key, value) for key, value in event["params"].items()]
        self._client.log_batch(run_id, params=params)
        self._client.log_text(run_id, event["study"], "study.yaml")

    def _attempt_start(self, event: Event) -> None:
        self._client.update_run(self.run_id(), status="RUNNING")

    def _trial_start(self, event: Event) -> None:
        number = event["number"]
        tags = {KIND_TAG: "trial", NUMBER_TAG: str(number), "mlflow.parentRunId": self.run_id()}
        tags |= {OUTCOME_TAG: RUNNING, POINT_TAG: json.dumps(event["point"]), "ray.trial_id": event["ray_trial_id"]}
        run_id = self._find(number)
        if run_id is None:
            run_id = self._create(event, number, f"trial-{number:03d}", tags)
        else:  # it goes on after an interruption or a failure
            self._client.update_run(run_id, status="RUNNING")
            self._client.log_batch(run_id, tags=[RunTag(OUTCOME_TAG, RUNNING)])
        self._client.log_batch(run_id, params=[Param(key, value) for key, value in event["params"].items()])

    def _epoch(self, event: Event) -> None:
        timestamp = _milliseconds(event)
        metrics = [Metric(name, value, timestamp, event["epoch"]) for name, value in event["metrics"].items()]
        tags = [RunTag("note", event["note"][:MAX_TAG])] if event["note"] else []
        self._client.log_batch(self.run_id(event["number"]), metrics=metrics, tags=tags)

    def _trial_end(self, event: Event) -> None:
        run_id, outcome = self.run_id(event["number"]), Outcome(event["outcome"])
        if event["checkpoint"]:
            self._log_checkpoint(run_id, event["checkpoint"])
        tags = {OUTCOME_TAG: outcome.value}
        if outcome is Outcome.PRUNED:
            tags |= {"pruned": "true", "pruned_at_epoch": str(event["epoch"])}
        if event["reason"]:
            tags["reason"] = event["reason"][:MAX_TAG]
        self._client.log_batch(run_id, tags=[RunTag(key, value) for key, value in tags.items()])
        self._client.set_terminated(run_id, MLFLOW_STATUS[outcome], _milliseconds(event))

    def _log_checkpoint(self, run_id: str, path: str) -> None:
        with self._store.local(path) as folder:
            for name in ARTIFACTS[self._study.checkpoint.artifacts]:
                if (folder / name).exists():
                    self._client.log_artifact(run_id, str(folder / name), ARTIFACT_FOLDERS.get(name))

    def _launch_end(self, event: Event) -> None:
        metrics = [Metric(name, value, _milliseconds(event), 0) for name, value in event["metrics"].items()]
        self._client.log_batch(self.run_id(), metrics=metrics)
        self._client.set_terminated(self.run_id(), event["status"], _milliseconds(event))

    def _create(self, event: Event, number: int | None, name: str, tags: dict[str, str]) -> str:
        tags = tags | {LAUNCH_TAG: self._launch, LAUNCH_ID_TAG: self._launch_id}
        run = self._client.create_run(self._experiment_id(), _milliseconds(event), tags, run_name=name)
        self._runs[number] = run.info.run_id
        self._is_new = self._is_new or number is None  # then all its trials' runs are made here: none to search for
        return self._runs[number]

    def _find(self, number: int | None) -> str | None:
        if number not in self._runs:
            if self._is_new:
                return None
            query = f"tags.{LAUNCH_ID_TAG} = '{self._launch_id}' AND "
            query += f"tags.{KIND_TAG} = 'launch'" if number is None else f"tags.{NUMBER_TAG} = '{number}'"
            found = self._client.search_runs([self._experiment_id()], query, max_results=1)
            if not found:
                return None
            self._runs[number] = found[0].info.run_id
        return self._runs[number]

    def _experiment_id(self) -> str:
        if not self._experiment:
            self._experiment = str(self._client.get_experiment_by_name(self._study.name).experiment_id)
        return self._experiment


def _milliseconds(event: Event) -> int:
    return int(event["time"] * 1000)


def _first_line(error: Exception) -> str:
    return str(error).strip().splitlines()[0][:200] if str(error).strip() else type(error).__name__


@contextlib.contextmanager
def delivering(writer: MlflowWriter, *, deadline_s: float = 60.0) -> Iterator[MlflowWriter]:
    """Runs the writer for the length of the block."""
    writer.start()
    try:
        yield writer
    finally:
        writer.close(deadline_s=deadline_s)
