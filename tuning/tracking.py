"""Every trial in MLflow: a Tune callback that only appends to a spool, and a thread that delivers it.

No tracking call runs or raises inside a Tune callback: an exception there would end the sweep, and a slow server
would stop every trial.
"""

import contextlib
import logging
import os
import threading
import time
from collections.abc import Iterator, Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

from mlflow import MlflowClient
from mlflow.entities import Metric, Param, RunTag
from mlflow.exceptions import MlflowException
from ray.tune import Callback
from ray.tune.experiment import Trial

from cpsc.errors import ConfigError
from tuning.config import Study
from tuning.outcome import MLFLOW_STATUS, Outcome, number_of, outcome_of
from tuning.space import build_config, flatten
from tuning.spool import Event, Spool
from tuning.trainable import BEST_STUDENT_FILE, CONFIG_FILE, SAMPLES_FILE, STATE_FILE, to_plain

logger = logging.getLogger(__name__)
logging.getLogger("mlflow").setLevel(logging.WARNING)  # it narrates the making of its tables
os.environ.setdefault("MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR", "false")

LAUNCH_TAG, TRIAL_TAG, OUTCOME_TAG, KIND_TAG = "cpsc.launch", "ray.trial_id", "outcome", "kind"
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


def artifact_location(study: Study) -> str | None:
    """Where artifacts go beside a SQLite store; a server decides for itself."""
    return None if study.tracking.uri else (study.storage / "mlflow-artifacts" / study.name).as_uri()


class TrackingCallback(Callback):
    """Turns what Tune reports into spooled events."""

    def __init__(self, spool: Spool, base: Mapping[str, Any], *, epochs: int, shared: Mapping[str, Any]) -> None:
        self._spool = spool
        self._base = base
        self._epochs = epochs
        self._shared = dict(shared)
        self._started: set[str] = set()
        self._last_epoch: dict[str, int] = {}
        self._ended: set[str] = set()
        self.busy_s = 0.0

    def on_trial_start(self, iteration: int, trials: list[Trial], trial: Trial, **info: Any) -> None:
        number = number_of(trial.trial_id, trials)
        self._started.add(trial.trial_id)
        config = build_config(self._base, trial.config)
        params = dict(flatten(to_plain(asdict(config)))) | self._shared
        self._append(
            trial, "trial_start", number=number, point=dict(trial.config), params={key: str(value) for key, value in params.items()}
        )

    def on_trial_result(self, iteration: int, trials: list[Trial], trial: Trial, result: dict[str, Any], **info: Any) -> None:
        epoch = int(result["training_iteration"])
        if epoch <= self._last_epoch.get(trial.trial_id, 0):
            return  # a retried trial repeats the epochs since its checkpoint; they are recorded already
        self._last_epoch[trial.trial_id] = epoch
        self._append(trial, "epoch", epoch=epoch, metrics=loggable_metrics(result))

    def on_trial_complete(self, iteration: int, trials: list[Trial], trial: Trial, **info: Any) -> None:
        self._end(trial, outcome_of(trial.last_result, epochs=self._epochs), trial.last_result.get("reason", ""))

    def on_trial_error(self, iteration: int, trials: list[Trial], trial: Trial, **info: Any) -> None:
        self._end(trial, Outcome.FAILED, _last_line(trial.error_file) or "the worker died")

    def on_experiment_end(self, trials: list[Trial], **info: Any) -> None:
        for trial in trials:
            if trial.trial_id in self._started:
                self._end(trial, Outcome.INTERRUPTED, "the sweep was interrupted")

    def _end(self, trial: Trial, outcome: Outcome, reason: str) -> None:
        if trial.trial_id in self._ended:
            return
        self._ended.add(trial.trial_id)
        checkpoint = trial.checkpoint
        self._append(
            trial,
            "trial_end",
            outcome=outcome.value,
            reason=reason,
            epoch=int((trial.last_result or {}).get("training_iteration", 0)),
            checkpoint=checkpoint.path if checkpoint else None,
        )

    def _append(self, trial: Trial, kind: str, **fields: Any) -> None:
        started = time.perf_counter()
        self._spool.append({"kind": kind, "time": time.time(), "trial": trial.trial_id, **fields})
        self.busy_s += time.perf_counter() - started


def loggable_metrics(result: Mapping[str, Any]) -> dict[str, float]:
    """The trainable's own numbers in a Tune result; Ray's bookkeeping stays in Ray."""
    own = ("epoch", "train_s", "epoch_s", "images_per_s", "student_lr", "generator_lr", "generator_label_agreement")
    prefixes = ("generator/", "student/", "probe_", "test_", "best_")
    return {
        name: float(value)
        for name, value in result.items()
        if (name in own or name.startswith(prefixes)) and isinstance(value, int | float) and not isinstance(value, bool)
    }


class MlflowWriter(threading.Thread):
    """Delivers a launch's spool to MLflow, in order, until it is closed; keeps trying while the server is away.

    Meeting an event twice changes nothing: runs are found by their tags, a metric with the same step, time and
    value is stored once, artifacts are overwritten with themselves.
    """

    def __init__(self, spool: Spool, study: Study, launch: str) -> None:
        super().__init__(name="mlflow-writer", daemon=True)
        # One attempt with a short pause: this thread has its own patience, and the sweep's end must not wait minutes.
        os.environ.setdefault("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "1")
        os.environ.setdefault("MLFLOW_HTTP_REQUEST_TIMEOUT", "10")
        self._spool = spool
        self._study = study
        self._launch = launch
        self._client = MlflowClient(tracking_uri=store_uri(study))
        self._experiment_id = ""
        self._runs: dict[str, str] = {}
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
            self._closing.wait(POLL_S if delivered else RETRY_S)
            if closing and time.monotonic() > self._deadline:
                self.undelivered = sum(1 for _ in self._spool.pending())
                return

    def close(self, *, deadline_s: float = 60.0) -> None:
        """Deliver what is left and stop; give up after `deadline_s`, the spool keeps the rest."""
        self._deadline = time.monotonic() + deadline_s
        self._closing.set()
        self.join()
        if self._failure is not None:
            raise self._failure

    def run_id(self, trial_id: str | None = None) -> str:
        """The MLflow run of a trial, or of the launch itself."""
        return self._runs[trial_id or ""]

    def _deliver_pending(self) -> bool:
        for event, position in self._spool.pending():
            started = time.perf_counter()
            try:
                self._deliver(event)
                self._spool.acknowledge(position)
            except (MlflowException, OSError) as error:
                if not self._away:
                    logger.warning("tracking is away, metrics are kept and delivered later: %s", _first_line(error))
                self._away = True
                return False
            finally:
                self.busy_s += time.perf_counter() - started
            self._away = False
        return True

    def _deliver(self, event: Event) -> None:
        handlers = {
            "launch_start": self._launch_start,
            "trial_start": self._trial_start,
            "epoch": self._epoch,
            "trial_end": self._trial_end,
            "launch_end": self._launch_end,
        }
        handlers[event["kind"]](event)

    def _launch_start(self, event: Event) -> None:
        experiment = self._client.get_experiment_by_name(self._study.name)
        if experiment is None:
            self._experiment_id = self._client.create_experiment(
                self._study.name, artifact_location(self._study), tags=EXPERIMENT_TAGS
            )
        else:
            self._experiment_id = experiment.experiment_id
        run_id = self._find_or_create(event, key="", name=self._launch, tags={KIND_TAG: "launch"})
        params = [Param(key, value) for key, value in event["params"].items()]
        self._client.log_batch(run_id, params=params)
        self._client.log_text(run_id, event["study"], "study.yaml")

    def _trial_start(self, event: Event) -> None:
        tags = {
            KIND_TAG: "trial",
            TRIAL_TAG: event["trial"],
            "number": str(event["number"]),
            "mlflow.parentRunId": self._runs[""],
        }
        run_id = self._find_or_create(event, key=event["trial"], name=f"trial-{event['number']:03d}", tags=tags)
        self._client.log_batch(run_id, params=[Param(key, value) for key, value in event["params"].items()])
        self._client.log_dict(run_id, event["point"], "point.yaml")

    def _epoch(self, event: Event) -> None:
        timestamp = _milliseconds(event)
        metrics = [Metric(name, value, timestamp, event["epoch"]) for name, value in event["metrics"].items()]
        self._client.log_batch(self._runs[event["trial"]], metrics=metrics)

    def _trial_end(self, event: Event) -> None:
        run_id, outcome = self._runs[event["trial"]], Outcome(event["outcome"])
        if event["checkpoint"]:
            for name in ARTIFACTS[self._study.checkpoint.artifacts]:
                file = Path(event["checkpoint"]) / name
                if file.exists():
                    self._client.log_artifact(run_id, str(file), ARTIFACT_FOLDERS.get(name))
        tags = {OUTCOME_TAG: outcome.value}
        if outcome is Outcome.PRUNED:
            tags |= {"pruned": "true", "pruned_at_epoch": str(event["epoch"])}
        if event["reason"]:
            tags["reason"] = event["reason"][:500]
        self._client.log_batch(run_id, tags=[RunTag(key, value) for key, value in tags.items()])
        self._client.set_terminated(run_id, MLFLOW_STATUS[outcome], _milliseconds(event))

    def _launch_end(self, event: Event) -> None:
        metrics = [Metric(name, value, _milliseconds(event), 0) for name, value in event["metrics"].items()]
        self._client.log_batch(self._runs[""], metrics=metrics)
        self._client.set_terminated(self._runs[""], event["status"], _milliseconds(event))

    def _find_or_create(self, event: Event, *, key: str, name: str, tags: dict[str, str]) -> str:
        if key in self._runs:
            return self._runs[key]
        query = f"tags.`{LAUNCH_TAG}` = '{self._launch}' AND "
        query += f"tags.`{TRIAL_TAG}` = '{key}'" if key else f"tags.`{KIND_TAG}` = 'launch'"
        found = self._client.search_runs([self._experiment_id], query, max_results=1)
        if found:
            self._runs[key] = found[0].info.run_id
        else:
            tags = tags | {LAUNCH_TAG: self._launch}
            run = self._client.create_run(self._experiment_id, _milliseconds(event), tags, run_name=name)
            self._runs[key] = run.info.run_id
        return self._runs[key]


def _milliseconds(event: Event) -> int:
    return int(event["time"] * 1000)


def _last_line(file: str | None) -> str:
    path = Path(file) if file else None
    lines = path.read_text().strip().splitlines() if path and path.exists() else []
    return lines[-1] if lines else ""


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
