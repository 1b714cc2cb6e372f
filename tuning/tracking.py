"""Every trial in MLflow: a thread that delivers a launch's journal, while the sweep runs and however long it takes."""

import contextlib
import functools
import itertools
import json
import logging
import os
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from mlflow import MlflowClient
from mlflow.entities import Metric, Param, RunTag
from mlflow.exceptions import INVALID_STATE, RESOURCE_DOES_NOT_EXIST, MlflowException

from tuning.config import Study
from tuning.inputs import dataset_inputs
from tuning.journal import Event, Journal, pause_after
from tuning.journal_copy import JournalCopy
from tuning.outcome import MLFLOW_STATUS, Outcome
from tuning.redaction import reason, redact
from tuning.refusal import is_refusal
from tuning.storage import Storage
from tuning.store import FAILURES, artifact_location, ensure_store, in_the_bin, set_http_limits, store_uri, storing_artifacts
from tuning.trainable import BEST_STUDENT_FILE, CONFIG_FILE, GALLERY_FILE, SAMPLES_FILE, STATE_FILE
from tuning.views import VIEW_TAG, view_tag

logger = logging.getLogger(__name__)
logging.getLogger("mlflow").setLevel(logging.WARNING)  # it narrates the making of its tables
logging.getLogger("mlflow.store.db.utils").setLevel(logging.CRITICAL)  # tracebacks of what the writer says in a line
logging.getLogger("tuning").setLevel(logging.WARNING)  # importing mlflow.pytorch silences whoever leaves that to the root logger
os.environ.setdefault("MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR", "false")
os.environ["MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT"] = "true"  # at each run's end it prints the server's address, password and all

LAUNCH_TAG, LAUNCH_ID_TAG, NUMBER_TAG, OUTCOME_TAG, KIND_TAG = "launch", "launch_id", "number", "outcome", "kind"
POINT_TAG, PARENT_TAG = "point", "mlflow.parentRunId"
RETRIES_METRIC = "retries"
"""How often a trial was begun again after a failure, each time with its moment. Of the cluster, not of the trial's numbers."""
RUNNING = "running"
"""Outcome tag of a trial that has none yet."""
MAX_TAG = 500
VALUES_IN_NAME = 3
EXPERIMENT_TAGS = {"mlflow.experimentKind": "custom_model_development"}  # the UI then opens on runs, not on chat traces
SOURCE_TAGS = {"mlflow.source.name": "cpsc-tune", "mlflow.source.type": "LOCAL"}
NOTE_TAG = "mlflow.note.content"
NOTE = (
    "One launch of a study; its trials are nested under it. The experiment's saved view *Trials* lists them, best first. "
    "After `cpsc-tune report` a page with figures lies under *Artifacts*, in `report/report.html`."
)
ARTIFACTS = {
    "last_and_best": (STATE_FILE, BEST_STUDENT_FILE, SAMPLES_FILE, GALLERY_FILE, CONFIG_FILE),
    "best": (BEST_STUDENT_FILE, SAMPLES_FILE, GALLERY_FILE, CONFIG_FILE),
    "none": (SAMPLES_FILE, GALLERY_FILE, CONFIG_FILE),
}
ARTIFACT_FOLDERS = {STATE_FILE: "checkpoint", BEST_STUDENT_FILE: "checkpoint"}
REFUSED_FILE = "refused.jsonl"
RETRY_S = 2.0
EVENTS_AT_ONCE = 1000
"""Delivered before they are acknowledged: of a long backlog an outage must not take back all."""
PATIENCE_S = 20.0
"""A server that has been away for longer than this at a sweep's end is not waited for; one that restarts then is back by it."""


class _ForgottenError(Exception):
    """The server knows the launch no longer, or never did: its database was lost, or the study names another server."""


@dataclass
class _Batch:
    """What a run is told in one request."""

    params: dict[str, str] = field(default_factory=dict)
    metrics: list[Metric] = field(default_factory=list)
    tags: dict[str, str] = field(default_factory=dict)


class MlflowWriter(threading.Thread):
    """Delivers a launch's journal to MLflow, in order, until it is closed; keeps trying while the server is away.

    Meeting an event twice changes nothing: runs are found by their tags, a metric with the same step, time and
    value is stored once, artifacts are overwritten with themselves. What a server that is there refuses for good is
    passed over and named in `REFUSED_FILE`, for what comes after it must not wait forever.
    """

    def __init__(self, journal: Journal, study: Study, launch: str, launch_id: str, copy: JournalCopy | None = None) -> None:
        super().__init__(name="mlflow-writer", daemon=True)
        set_http_limits()
        self._journal = journal
        self._copy = copy or JournalCopy(journal, None, launch)
        self._study = study
        self._launch = launch
        self._storage = Storage(study.storage)
        self._launch_id = launch_id  # two users of one server may give their launches the same name
        self._runs: dict[int | None, str] = {}
        self._tags: dict[str, dict[str, str]] = {}
        self._experiment = ""
        self._is_new = False
        self._in_doubt = False
        self._told_again = False
        self._closing = threading.Event()
        self._patience_s = PATIENCE_S
        self._num_failures = 0
        self._away_since = 0.0
        self._warned: set[tuple[str, int | None]] = set()
        self._failure: Exception | None = None
        self._pause_s = 0.0
        self.busy_s = 0.0
        """Time spent in deliveries. Opening the store, which makes a new one's tables, is none: it is done while Ray starts."""
        self.undelivered = 0
        self.num_refused = 0

    @functools.cached_property
    def _client(self) -> MlflowClient:
        ensure_store(self._study)
        return MlflowClient(tracking_uri=store_uri(self._study))  # which connects where that is a database: not before the thread

    def run(self) -> None:
        try:
            self._run()
        except Exception as error:  # a bug of ours must surface where the sweep ends, not die with the thread
            self._failure = error

    def _run(self) -> None:
        while True:
            closing = self._closing.is_set()
            if self._deliver_pending():
                if closing:
                    return
                self._closing.wait(self._pause_s)
            elif not closing:
                self._closing.wait(RETRY_S)
            elif time.monotonic() - self._away_since > self._patience_s:
                self.undelivered = sum(1 for _ in self._journal.pending())
                return
            else:
                time.sleep(RETRY_S)  # the event is set and would not wait: an absent server must not be asked in a tight loop

    def close(self, *, deadline_s: float = PATIENCE_S) -> None:
        """Deliver what is left, however long it takes, and stop.

        A server that does not answer and has not done so for `deadline_s` is given up; the journal keeps the rest.
        """
        self._patience_s = deadline_s
        self._closing.set()
        self.join()
        if self._failure is not None:
            raise self._failure

    def run_id(self, number: int | None = None) -> str:
        """The MLflow run of a trial, or of the launch itself."""
        run_id = self._find(number)
        if run_id is not None:
            return run_id
        if number is None and not self._told_again:
            raise _ForgottenError
        whose = f"launch {self._launch}" if number is None else f"trial {number} of launch {self._launch}"
        raise MlflowException(f"{whose} has no run in {redact(store_uri(self._study))}", RESOURCE_DOES_NOT_EXIST)

    def _deliver_pending(self) -> bool:
        """Whether everything that was recorded has been dealt with, as far as no loss of this machine takes it back."""
        before = self.busy_s
        try:
            safe = self._copy.secure(at_once=self._closing.is_set())
            for events, position in _portions(self._journal.pending(), safe):
                self._open_store()
                self._deliver_portion(events)
                self._journal.acknowledge(position)
        except _ForgottenError as error:
            if self._told_again:
                self._note_failure(error)
                return False
            self._tell_again()
            return self._deliver_pending()
        except FAILURES as error:
            self._note_failure(error)
            return False
        self._pause_s = pause_after(self.busy_s - before)
        return True

    def _open_store(self) -> None:
        _ = self._client

    def _deliver_portion(self, events: Sequence[Event]) -> None:
        """Deliver `events`, those of each trial in their order and together."""
        started = time.perf_counter()
        try:
            for group in _by_run(events):
                self._deliver_group(group)
                self._num_failures = 0
        finally:
            self.busy_s += time.perf_counter() - started

    def _deliver_group(self, events: Sequence[Event]) -> None:
        """Deliver events of one run; where MLflow refuses them, one by one, so that what it takes arrives."""
        try:
            self._deliver(events)
        except FAILURES as error:
            if not is_refusal(error):
                raise
            for event in events:
                self._ask(event, self._deliver, [event])

    def _note_failure(self, error: Exception) -> None:
        self._num_failures += 1
        if self._num_failures == 1:
            self._away_since = time.monotonic()
        if self._num_failures == 2:  # one may be a connection that the server closed for being idle
            logger.warning("tracking is away, metrics are kept and delivered later: %s", reason(error))
        self._is_new = False  # a run may have been made although its answer was lost
        self._in_doubt = True
        self._tags.clear()  # and a tag may have been set

    def _ask(self, event: Event, call: Callable[..., Any], *arguments: Any, **named: Any) -> None:
        """Call MLflow. What it refuses twice, being there in between, is recorded and passed over; other failures are raised."""
        try:
            call(*arguments, **named)
            return
        except FAILURES as error:
            if not is_refusal(error):
                raise
            self._experiment = ""
            if not self._experiment_id():
                raise _ForgottenError(reason(error)) from error
        try:
            call(*arguments, **named)
        except FAILURES as error:
            if not is_refusal(error):
                raise
            self._pass_over(event, reason(error))

    def _pass_over(self, event: Event, reason: str) -> None:
        self.num_refused += 1
        known = {key: event[key] for key in ("kind", "number", "epoch") if key in event}
        with (self._journal.path.parent / REFUSED_FILE).open("a", encoding="utf-8") as handle:
            handle.write(json.dumps(known | {"time": time.time(), "reason": reason}) + "\n")
        topic = (event["kind"], event.get("number"))
        if topic not in self._warned:  # a run that was deleted refuses every epoch to come
            what = event["kind"] + "".join(f", {key} {known[key]}" for key in ("number", "epoch") if key in known)
            logger.warning("MLflow refuses a record (%s), it is passed over and named in %s: %s", what, REFUSED_FILE, reason)
        self._warned.add(topic)

    def _tell_again(self) -> None:
        """Deliver the whole journal to a server that knows nothing of the launch."""
        logger.warning("the tracking server does not know launch %s (any more): it is told everything again", self._launch)
        self._journal.acknowledge(0)
        self._runs, self._experiment, self._is_new, self._told_again = {}, "", False, True

    def _deliver(self, events: Sequence[Event]) -> None:
        """Tell MLflow of `events`, all of one run."""
        handlers = {
            "launch_start": self._launch_start,
            "attempt_start": self._attempt_start,
            "trial_start": self._trial_start,
            "epoch": self._epoch,
            "retry": self._retry,
            "proposed": lambda event, batch: None,  # shown once it starts
            "checkpoint": lambda event, batch: None,  # its files go with the trial's end
            "trial_end": self._trial_end,
            "launch_end": self._launch_end,
        }
        batch = _Batch()
        for event in events:
            handlers[event["kind"]](event, batch)
        self._send(events[-1], batch)

    def _send(self, event: Event, batch: _Batch) -> None:
        """Log what `batch` holds to the run of `event`, and empty it. A tag that the run has is not sent again."""
        if not (batch.params or batch.metrics or batch.tags):
            return
        run_id = self.run_id(event.get("number"))
        known = self._tags.setdefault(run_id, {})
        tags = {key: value for key, value in batch.tags.items() if known.get(key) != value}
        self._client.log_batch(
            run_id,
            metrics=batch.metrics,
            params=[Param(key, value) for key, value in batch.params.items()],
            tags=[RunTag(key, value) for key, value in tags.items()],
        )
        known |= tags
        batch.params, batch.metrics, batch.tags = {}, [], {}

    def _launch_start(self, event: Event, batch: _Batch) -> None:
        if not self._experiment_id():
            self._client.create_experiment(self._study.name, artifact_location(self._study), tags=EXPERIMENT_TAGS)
        run_id = self._find(None)
        if run_id is None:
            run_id = self._create(event, None, self._launch, {KIND_TAG: "launch", NOTE_TAG: NOTE})
            self._log_inputs(event, run_id)
        batch.params |= event["params"]
        self._ask(event, self._client.set_experiment_tag, self._experiment_id(), VIEW_TAG, view_tag(self._study))
        with storing_artifacts():
            self._client.log_text(run_id, event["study"], "study.yaml")

    def _attempt_start(self, event: Event, batch: _Batch) -> None:
        self._client.update_run(self.run_id(), status="RUNNING")

    def _trial_start(self, event: Event, batch: _Batch) -> None:
        number = event["number"]
        run_id = self._find(number)
        if run_id is None:
            tags = {KIND_TAG: "trial", NUMBER_TAG: str(number), PARENT_TAG: self.run_id()}
            tags |= {OUTCOME_TAG: RUNNING, POINT_TAG: json.dumps(event["point"]), "ray.trial_id": event["ray_trial_id"]}
            self._log_inputs(event, self._create(event, number, run_name(number, event["point"]), tags))
            batch.params |= event["params"]
            return
        # It goes on after an interruption or a failure.
        self._client.update_run(run_id, status="RUNNING")
        logged = self._client.get_run(run_id).data.params | batch.params
        # A param can be set once; a resume may have raised the number of epochs.
        changed = {key: value for key, value in event["params"].items() if logged.get(key, value) != value}
        batch.tags |= {OUTCOME_TAG: RUNNING} | {f"resumed.{key}": value for key, value in changed.items()}
        batch.params |= {key: value for key, value in event["params"].items() if key not in logged}

    def _epoch(self, event: Event, batch: _Batch) -> None:
        timestamp = _milliseconds(event)
        batch.metrics += [Metric(name, value, timestamp, event["epoch"]) for name, value in event["metrics"].items()]
        batch.tags |= {key: event[key][:MAX_TAG] for key in ("note", "node", "environment") if event.get(key)}

    def _retry(self, event: Event, batch: _Batch) -> None:
        batch.metrics.append(Metric(RETRIES_METRIC, event["count"], _milliseconds(event), event["epoch"]))

    def _trial_end(self, event: Event, batch: _Batch) -> None:
        run_id, outcome = self.run_id(event["number"]), Outcome(event["outcome"])
        if event["checkpoint"]:
            self._log_checkpoint(event, run_id)
        alone = batch == _Batch()
        batch.tags[OUTCOME_TAG] = outcome.value
        if outcome is Outcome.PRUNED:
            batch.tags |= {"pruned": "true", "pruned_at_epoch": str(event["epoch"])}
        if event["reason"]:
            batch.tags["reason"] = event["reason"][:MAX_TAG]
        self._close_run(event, batch, MLFLOW_STATUS[outcome], alone=alone)

    def _launch_end(self, event: Event, batch: _Batch) -> None:
        alone = batch == _Batch()
        batch.metrics += [Metric(name, value, _milliseconds(event), 0) for name, value in event["metrics"].items()]
        self._close_run(event, batch, event["status"], alone=alone)

    def _close_run(self, event: Event, batch: _Batch, status: str, *, alone: bool) -> None:
        """Send `batch` and end its run. Where `event` is `alone` in it and is refused, the run is ended all the same."""
        if alone:
            self._ask(event, self._send, event, batch)
        else:
            self._send(event, batch)
        self._client.set_terminated(self.run_id(event.get("number")), status, _milliseconds(event))

    def _log_checkpoint(self, event: Event, run_id: str) -> None:
        if not self._storage.listing(event["checkpoint"]):
            return  # it was lost, which must not hold back the rest
        with self._storage.reading(event["checkpoint"]) as folder:
            for name in ARTIFACTS[self._study.checkpoint.artifacts]:
                if (folder / name).exists():
                    self._ask(event, self._log_artifact, run_id, str(folder / name), ARTIFACT_FOLDERS.get(name))

    def _log_artifact(self, run_id: str, file: str, folder: str | None) -> None:
        with storing_artifacts():
            self._client.log_artifact(run_id, file, folder)

    def _create(self, event: Event, number: int | None, name: str, tags: dict[str, str]) -> str:
        tags = tags | {LAUNCH_TAG: self._launch, LAUNCH_ID_TAG: self._launch_id} | SOURCE_TAGS
        run = self._client.create_run(self._experiment_id(), _milliseconds(event), tags, run_name=name)
        self._runs[number] = run.info.run_id
        if number is None:
            self._is_new = True  # then all its trials' runs are made here: none to search for
            self._told_again = False
        return self._runs[number]

    def _log_inputs(self, event: Event, run_id: str) -> None:
        if event.get("inputs"):
            self._client.log_inputs(run_id, dataset_inputs(event["inputs"]))

    def _find(self, number: int | None) -> str | None:
        if number not in self._runs:
            if self._is_new:
                return None
            found = self._search(number)
            if found is None and self._in_doubt:
                time.sleep(RETRY_S)  # a server that hung may still be at work on a request that was given up
                self._in_doubt = False
                found = self._search(number)
            if found is None:
                return None
            self._runs[number] = found
        return self._runs[number]

    def _search(self, number: int | None) -> str | None:
        if not self._experiment_id():
            return None
        query = f"tags.{LAUNCH_ID_TAG} = '{self._launch_id}' AND "
        query += f"tags.{KIND_TAG} = 'launch'" if number is None else f"tags.{NUMBER_TAG} = '{number}'"
        found = self._client.search_runs([self._experiment_id()], query, max_results=1)
        return found[0].info.run_id if found else None

    def _experiment_id(self) -> str:
        """Empty where the server has none of the study's name."""
        if not self._experiment:
            experiment = self._client.get_experiment_by_name(self._study.name)
            if experiment is not None and experiment.lifecycle_stage == "deleted":
                raise MlflowException(in_the_bin(experiment), INVALID_STATE)  # somebody can take it out: wait for that
            self._experiment = str(experiment.experiment_id) if experiment is not None else ""
        return self._experiment


def run_name(number: int, point: Mapping[str, Any]) -> str:
    """What a table of runs calls a trial: its number, and the first of its searched values."""
    shown = [f"{path.rpartition('.')[2]}={_short(value)}" for path, value in itertools.islice(point.items(), VALUES_IN_NAME)]
    return " ".join([f"trial-{number:03d}", *shown])


def _short(value: Any) -> str:
    return f"{value:.3g}" if isinstance(value, float) else str(value)


def _portions(pending: Iterable[tuple[Event, int]], safe: int) -> Iterator[tuple[list[Event], int]]:
    """The `pending` events up to the position `safe`, some at a time, each portion with its last position."""
    ready = itertools.takewhile(lambda item: item[1] <= safe, pending)
    while portion := list(itertools.islice(ready, EVENTS_AT_ONCE)):
        yield [event for event, _ in portion], portion[-1][1]


def _by_run(events: Iterable[Event]) -> Iterator[list[Event]]:
    """`events` of one run together: those of a trial pass other trials', not the launch's own."""
    for _, between in itertools.groupby(events, key=lambda event: "number" in event):
        groups: dict[int | None, list[Event]] = {}
        for event in between:
            groups.setdefault(event.get("number"), []).append(event)
        yield from groups.values()


def _milliseconds(event: Event) -> int:
    return int(event["time"] * 1000)


@contextlib.contextmanager
def delivering(writer: MlflowWriter, *, deadline_s: float = PATIENCE_S) -> Iterator[MlflowWriter]:
    """Runs the writer for the length of the block."""
    writer.start()
    try:
        yield writer
    finally:
        writer.close(deadline_s=deadline_s)
