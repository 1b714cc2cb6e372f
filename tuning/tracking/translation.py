"""Translation of a journal's events into MLflow's calls, each safe to repeat."""

import itertools
import json
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from mlflow.entities import Metric, Param, Run, RunTag

from tuning.launch.events import (
    AttemptStart,
    CheckpointSaved,
    Compared,
    Epoch,
    Event,
    Exploited,
    FinishAsked,
    LaunchEnd,
    LaunchStart,
    Proposed,
    Rejected,
    Retry,
    Transferred,
    TrialEnd,
    TrialStart,
)
from tuning.outcome import MLFLOW_STATUS, RUNNING, Outcome
from tuning.redaction import reason
from tuning.shown_figures import EPOCHS_TAG, no_figures, shown_figures
from tuning.storage import Storage
from tuning.study import Study
from tuning.study.search_space import REPEATED_PATH
from tuning.tracking.client import FAILURES, storing_artifacts
from tuning.tracking.exploit_tags import exploit_tag
from tuning.tracking.inputs import dataset_inputs
from tuning.tracking.notes import NOTE_TAG, Notes
from tuning.tracking.refusal import is_refusal
from tuning.tracking.retry import Patience
from tuning.tracking.run_lookup import ForgottenError, LaunchRuns
from tuning.tracking.tags import (
    FINALIST_TAG,
    KIND_TAG,
    MARKS_TAG,
    MAX_MARKS,
    MAX_TAG,
    NUMBER_TAG,
    OUTCOME_TAG,
    PARENT_TAG,
    POINT_TAG,
    REASON_TAG,
    RETRIES_METRIC,
)
from tuning.tracking.ui_view import VIEW_TAG, view_tag
from tuning.trial.files import (
    ANSWERS_FILE,
    BEST_STUDENT_FILE,
    CONFIG_FILE,
    GALLERY_FILE,
    SAMPLES_FILE,
    SCHEDULE_FILE,
    STATE_FILE,
)

WORDS_IN_NAME, MAX_WORD = 2, 12
METRICS_AT_ONCE = 1000
"""MLflow's limit per request; a client that sends more splits it, and would repeat all parts if one fails."""
NO_REASON = ""
"""Replaces a reason that is no longer true, because deleting a tag twice would be an error."""
ALWAYS = (SAMPLES_FILE, GALLERY_FILE, CONFIG_FILE, SCHEDULE_FILE, ANSWERS_FILE)
ARTIFACTS = {"last_and_best": (STATE_FILE, BEST_STUDENT_FILE, *ALWAYS), "best": (BEST_STUDENT_FILE, *ALWAYS), "none": ALWAYS}
ARTIFACT_FOLDERS = {STATE_FILE: "checkpoint", BEST_STUDENT_FILE: "checkpoint"}


@dataclass
class _Batch:
    """What is sent to a run in one request."""

    params: dict[str, str] = field(default_factory=dict)
    metrics: list[Metric] = field(default_factory=list)
    tags: dict[str, str] = field(default_factory=dict)


class Translator:
    """Sends events to MLflow, in order; sending one again changes nothing.

    `patience` repeats every request until it is answered. A final refusal is raised, or passed to `on_refusal` with
    the event and the reason if the rest of the event can do without it. `notes` writes the descriptions.
    """

    def __init__(
        self,
        study: Study,
        runs: LaunchRuns,
        patience: Patience,
        on_refusal: Callable[[Event, str], None],
        notes: Notes | None = None,
    ) -> None:
        self._study = study
        self._runs = runs
        self._patience = patience
        self._record_refusal = on_refusal
        self._notes = notes
        self._storage = Storage(study.storage)
        self._tags: dict[str, dict[str, str]] = {}
        self._ends: dict[str, tuple[str, int]] = {}
        self._begun: set[int] = set()

    def tell(self, events: Sequence[Event]) -> None:
        """Send `events`, all of one run. MlflowException if one is refused; the others may or may not have arrived."""
        batch = _Batch()
        try:
            for event in events:
                self._translate(event, batch)
            self._send(events[-1], batch)
        except FAILURES:
            self._tags.clear()  # some of them may have been set
            raise

    def describe(self, events: Sequence[Event]) -> None:
        """Update the descriptions of study and launch, if `events`, which were just sent, have changed them."""
        kinds = set(map(type, events))
        if self._notes is None or not kinds & {AttemptStart, TrialEnd, LaunchEnd}:
            return
        launch, client = self._runs.run_id(), self._runs.client
        self.attempt(events[-1], self._ask, client.set_tag, launch, NOTE_TAG, self._notes.launch())
        if kinds & {AttemptStart, LaunchEnd}:  # the study's does not change with every trial
            experiment_id = self._ask(self._runs.experiment_id)
            self.attempt(events[-1], self._ask, client.set_experiment_tag, experiment_id, NOTE_TAG, self._notes.study())

    def _note(self, number: int) -> dict[str, str]:
        """The tag that describes a trial."""
        return {} if self._notes is None else {NOTE_TAG: self._notes.trial(number)}

    def _translate(self, event: Event, batch: _Batch) -> None:
        match event:
            case LaunchStart():
                self._launch_start(event, batch)
            case AttemptStart():
                self._reopen(self._runs.run_id())
            case TrialStart():
                self._trial_start(event, batch)
            case Epoch():
                self._epoch(event, batch)
            case Exploited():
                batch.tags |= exploit_tag(event)
            case Retry(time=time, epoch=epoch, count=count):
                batch.metrics.append(Metric(RETRIES_METRIC, count, _milliseconds(time), epoch))
            case TrialEnd():
                self._trial_end(event, batch)
            case LaunchEnd():
                self._launch_end(event, batch)
            case Proposed() | Rejected() | Transferred() | Compared() | FinishAsked() | CheckpointSaved():
                pass  # a trial is shown once it starts; its files are logged at its end

    def attempt(self, event: Event, call: Callable[..., Any], *arguments: Any) -> None:
        """Make a `call` that is repeated until answered; skip it if a reachable server refuses it twice."""
        try:
            call(*arguments)
            return
        except FAILURES as error:
            if not is_refusal(error):
                raise
            if not self._patience.ask(lambda: self._runs.experiment_id(anew=True)):
                raise ForgottenError(reason(error)) from error
        try:
            call(*arguments)
        except FAILURES as error:
            if not is_refusal(error):
                raise
            self._record_refusal(event, reason(error))

    def _ask(self, call: Callable[..., Any], *arguments: Any, **named: Any) -> Any:
        return self._patience.ask(call, *arguments, **named)

    def _send(self, event: Event, batch: _Batch) -> None:
        """Log `batch` to the run of `event`, and empty it. Tags that the run already has are not sent again."""
        if not (batch.params or batch.metrics or batch.tags):
            return
        run_id = self._runs.run_id(event.number)
        known = self._tags.setdefault(run_id, {})
        tags = {key: value for key, value in batch.tags.items() if known.get(key) != value}
        texts = {
            "params": [Param(key, value) for key, value in batch.params.items()],
            "tags": [RunTag(key, value) for key, value in tags.items()],
        }
        room = METRICS_AT_ONCE - sum(map(len, texts.values()))
        self._ask(self._runs.client.log_batch, run_id, metrics=batch.metrics[: max(0, room)], **texts)
        for start in range(max(0, room), len(batch.metrics), METRICS_AT_ONCE):
            self._ask(self._runs.client.log_batch, run_id, metrics=batch.metrics[start : start + METRICS_AT_ONCE])
        known |= tags
        batch.params, batch.metrics, batch.tags = {}, [], {}

    def _launch_start(self, event: LaunchStart, batch: _Batch) -> None:
        experiment_id = self._ask(self._runs.open_experiment)
        self._runs.make(None, self._runs.launch, {KIND_TAG: "launch"}, start_ms=_milliseconds(event.time))
        self._log_inputs(event)
        batch.params |= event.params
        view = (experiment_id, VIEW_TAG, view_tag(self._study))
        self.attempt(event, self._ask, self._runs.client.set_experiment_tag, *view)
        self._ask(self._log_text, self._runs.run_id(), event.study, "study.yaml")

    def _trial_start(self, event: TrialStart, batch: _Batch) -> None:
        number = event.number
        tags = {KIND_TAG: "trial", NUMBER_TAG: str(number), PARENT_TAG: self._runs.run_id()}
        tags |= {OUTCOME_TAG: RUNNING, POINT_TAG: json.dumps(event.point), "ray.trial_id": event.ray_trial_id}
        if event.finalist_of is not None:
            tags[FINALIST_TAG] = str(event.finalist_of)
        self._begun.add(number)
        note, name = self._note(number), run_name(number, event.point, event.finalist_of)
        is_new = self._runs.make(number, name, tags | note, start_ms=_milliseconds(event.time))
        self._log_inputs(event)
        if is_new:
            batch.params |= event.params
            return
        # It continues after an interruption or a failure, or the answer to its creation was lost.
        run_id = self._runs.run_id(number)
        self._reopen(run_id)
        known = self._ask(self._runs.client.get_run, run_id).data
        logged = known.params | batch.params
        if known.tags.get(REASON_TAG):
            batch.tags[REASON_TAG] = NO_REASON
        # A param can only be set once; a resume may have raised the number of epochs.
        changed = {key: value for key, value in event.params.items() if logged.get(key, value) != value}
        batch.tags |= {OUTCOME_TAG: RUNNING} | note | {f"resumed.{key}": value for key, value in changed.items()}
        batch.params |= {key: value for key, value in event.params.items() if key not in logged}

    def _epoch(self, event: Epoch, batch: _Batch) -> None:
        timestamp = _milliseconds(event.time)
        batch.metrics += [Metric(name, value, timestamp, event.epoch) for name, value in event.metrics.items()]
        words = {"note": event.note, "node": event.node, "environment": event.environment}
        batch.tags |= {key: text[:MAX_TAG] for key, text in words.items() if text}
        if event.metrics.get("best_epoch") == event.epoch:
            batch.tags |= shown_figures(event.metrics, self._study.objective)
            batch.tags |= {MARKS_TAG: event.marks} if 0 < len(event.marks) <= MAX_MARKS else {}

    def _trial_end(self, event: TrialEnd, batch: _Batch) -> None:
        if event.checkpoint:
            self._log_checkpoint(event, event.checkpoint)
        alone = batch == _Batch()
        batch.tags |= {OUTCOME_TAG: event.outcome.value, EPOCHS_TAG: str(event.epoch)} | self._note(event.number)
        if event.outcome is Outcome.DIVERGED:
            batch.tags |= no_figures(self._study.objective)
        if event.outcome is Outcome.PRUNED:
            batch.tags |= {"pruned": "true", "pruned_at_epoch": str(event.epoch)}
        if event.reason or self._has_reason(event.number):
            batch.tags[REASON_TAG] = event.reason[:MAX_TAG]
        self._close_run(event, batch, MLFLOW_STATUS[event.outcome], alone=alone)

    def _has_reason(self, number: int) -> bool:
        """Whether the trial has a reason from an interruption after which it was not restarted, because it had already ended."""
        if number in self._begun:
            return False
        return bool(self._ask(self._runs.client.get_run, self._runs.run_id(number)).data.tags.get(REASON_TAG))

    def _launch_end(self, event: LaunchEnd, batch: _Batch) -> None:
        alone = batch == _Batch()
        batch.metrics += [Metric(name, value, _milliseconds(event.time), 0) for name, value in event.metrics.items()]
        self._close_run(event, batch, event.status, alone=alone)
        self.attempt(event, self._ask, self._runs.settle, self._close_anew)

    def _reopen(self, run_id: str) -> None:
        self._ends.pop(run_id, None)
        self._ask(self._runs.client.update_run, run_id, status="RUNNING")

    def _close_run(self, event: TrialEnd | LaunchEnd, batch: _Batch, status: str, *, alone: bool) -> None:
        """Send `batch` and end its run. If `event` is `alone` in it and is refused, the run is ended anyway."""
        if alone:
            self.attempt(event, self._send, event, batch)
        else:
            self._send(event, batch)
        run_id, end_ms = self._runs.run_id(event.number), _milliseconds(event.time)
        self._ask(self._runs.client.set_terminated, run_id, status, end_ms)
        self._ends[run_id] = (status, end_ms)

    def _close_anew(self, run: Run) -> None:
        """End `run` again as before, if a request that the server carried out late has undone that."""
        status, end_ms = self._ends.get(run.info.run_id, (run.info.status, 0))
        if run.info.status != status:
            self._runs.client.set_terminated(run.info.run_id, status, end_ms)

    def _log_checkpoint(self, event: TrialEnd, checkpoint: str) -> None:
        run_id = self._runs.run_id(event.number)
        if not self._ask(self._storage.listing, checkpoint):
            return  # a lost checkpoint must not hold back the rest
        with ExitStack() as stack:
            folder = self._ask(lambda: stack.enter_context(self._storage.reading(checkpoint)))
            for name in ARTIFACTS[self._study.checkpoint.artifacts]:
                if (folder / name).exists():
                    self.attempt(event, self._ask, self._log_artifact, run_id, folder / name, ARTIFACT_FOLDERS.get(name))

    def _log_artifact(self, run_id: str, file: Path, folder: str | None) -> None:
        with storing_artifacts():
            self._runs.client.log_artifact(run_id, str(file), folder)

    def _log_text(self, run_id: str, text: str, name: str) -> None:
        with storing_artifacts():
            self._runs.client.log_text(run_id, text, name)

    def _log_inputs(self, event: LaunchStart | TrialStart) -> None:
        """Log the inputs of `event`; the server skips one with the same name and digest."""
        if event.inputs:
            self._ask(self._runs.client.log_inputs, self._runs.run_id(event.number), dataset_inputs(event.inputs))


def run_name(number: int, point: Mapping[str, Any], finalist_of: int | None = None) -> str:
    """A trial's name in tables and legends: its number and those of its searched values that are short words.

    Numeric values have columns of their own; tables cut off longer names. A finalist is named after the trial it repeats.
    """
    if finalist_of is not None:
        return f"trial-{number:03d} of {finalist_of}, seed {point[REPEATED_PATH]}"
    words = [value for value in point.values() if isinstance(value, str) and len(value) <= MAX_WORD]
    return " ".join([f"trial-{number:03d}", *itertools.islice(words, WORDS_IN_NAME)])


def _milliseconds(time: float) -> int:
    return int(time * 1000)
