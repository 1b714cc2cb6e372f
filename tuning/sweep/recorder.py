"""Records what Tune reports as journal events, and does nothing else.

No tracking call runs inside a Tune callback: an exception there would end the sweep, and a slow server would stop every trial.
"""

import errno
import os
import signal
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from ray.tune import Callback, Checkpoint
from ray.tune.experiment import Trial

from cpsc.methods import effective_settings
from tuning.launch import Journal, LaunchHistory
from tuning.launch.events import CheckpointSaved, Epoch, Retry, TrialEnd, TrialEvent, TrialStart
from tuning.outcome import WAITS, Outcome, length_of, outcome_of
from tuning.redaction import redact
from tuning.study import build_config
from tuning.study.base_config import BaseConfig
from tuning.study.nested_keys import flatten
from tuning.study.yaml_loader import to_plain
from tuning.trial.handshake import UnfitNodeError
from tuning.trial.trainable import loggable_metrics

INTERRUPTED = "the sweep was interrupted"


class Recorder(Callback):
    """Writes the events of a launch's trials, by number, to the journal. Epochs in `history` are not written again."""

    def __init__(
        self,
        journal: Journal,
        history: LaunchHistory,
        base: BaseConfig,
        *,
        epochs: int,
        shared: Mapping[str, Any],
        inputs: Sequence[Mapping[str, str]] = (),
        student_cost: Callable[[str], Mapping[str, Any]] = lambda arch: {},
    ) -> None:
        self._journal = journal
        self._base = base
        self._epochs = epochs
        self._shared = dict(shared)
        self._inputs = [dict(entry) for entry in inputs]
        self._student_cost = student_cost
        self._last_epoch = {number: trial.last_epoch for number, trial in history.trials.items()}
        self._num_retries = {number: trial.num_retries for number, trial in history.trials.items()}
        self._open: dict[int, str] = {}
        """For trials that have started and not ended, by number: Ray's id of the Tune trial that runs, or last ran, them."""
        self.busy_s = 0.0
        self.stopped_by = ""
        """Why this recorder has stopped the sweep; empty if it has not."""

    def on_trial_start(self, iteration: int, trials: list[Trial], trial: Trial, **info: Any) -> None:
        goes_on = self._open.get(number_of(trial), trial.trial_id) != trial.trial_id
        self._open[number_of(trial)] = trial.trial_id
        if not goes_on:
            self._begin(trial)

    def on_trial_result(self, iteration: int, trials: list[Trial], trial: Trial, result: dict[str, Any], **info: Any) -> None:
        number, epoch = number_of(trial), int(result["epoch"])
        if epoch <= self._last_epoch.get(number, 0):
            return  # repeated since the last checkpoint, with identical numbers
        self._last_epoch[number] = epoch
        words: dict[str, Any] = {key: redact(result.get(key, "")) for key in ("note", "node", "environment", "marks")}
        self._append(Epoch(**_when(trial), epoch=epoch, metrics=loggable_metrics(result), **words))

    def on_checkpoint(self, iteration: int, trials: list[Trial], trial: Trial, checkpoint: Checkpoint, **info: Any) -> None:
        self._append(CheckpointSaved(**_when(trial), path=checkpoint.path))
        trial.run_metadata.num_failures = 0  # the limit is for consecutive failures: machines that come and go must not use it up

    def on_trial_recover(self, iteration: int, trials: list[Trial], trial: Trial, **info: Any) -> None:
        if self._stop_if_hopeless(last_line(trial.error_file)):
            return
        number = number_of(trial)
        self._num_retries[number] = self._num_retries.get(number, 0) + 1
        self._append(Retry(**_when(trial), epoch=self._last_epoch.get(number, 0), count=self._num_retries[number]))

    def on_trial_complete(self, iteration: int, trials: list[Trial], trial: Trial, **info: Any) -> None:
        if waits(trial):
            return
        epochs = length_of(trial.config["point"], self._epochs)
        self._end(trial, outcome_of(trial.last_result, epochs=epochs), trial.last_result.get("reason", ""))

    def on_trial_error(self, iteration: int, trials: list[Trial], trial: Trial, **info: Any) -> None:
        reason = last_line(trial.error_file)
        if not self._stop_if_hopeless(reason):  # else it stays open, and a resume continues it
            self._end(trial, Outcome.FAILED, reason or "the worker died")

    def on_experiment_end(self, trials: list[Trial], **info: Any) -> None:
        for trial in reversed(trials):  # only the last Tune trial of each of our trials
            if number_of(trial) in self._open:
                self._end(trial, Outcome.INTERRUPTED, INTERRUPTED)

    def leave(self) -> None:
        """End the trials that are still open, if Tune could not: none may stay running in the records."""
        for number in sorted(self._open):
            self._append(
                TrialEnd(
                    time=time.time(),
                    number=number,
                    outcome=Outcome.INTERRUPTED,
                    reason=INTERRUPTED,
                    epoch=self._last_epoch.get(number, 0),
                    checkpoint=None,
                )
            )
        self._open.clear()

    def _stop_if_hopeless(self, reason: str) -> bool:
        """End the sweep, like Ctrl-C, if every other trial would fail for the same reason."""
        if not is_disk_full(reason) and UnfitNodeError.__name__ not in reason:
            return False
        if not self.stopped_by:
            self.stopped_by = reason.partition(": ")[2] or reason  # without the exception's name
            os.kill(os.getpid(), signal.SIGINT)
        return True

    def _begin(self, trial: Trial) -> None:
        self._open[number_of(trial)] = trial.trial_id
        config = build_config(self._base, trial.config["point"])
        params = {**dict(flatten(to_plain(effective_settings(config)))), **self._student_cost(config.student.arch), **self._shared}
        self._append(
            TrialStart(
                **_when(trial),
                point=trial.config["point"],
                params={key: str(value) for key, value in params.items()},
                ray_trial_id=trial.trial_id,
                inputs=self._inputs,
                finalist_of=trial.config.get("finalist_of"),
            )
        )

    def _end(self, trial: Trial, outcome: Outcome, reason: str) -> None:
        number = number_of(trial)
        if number not in self._open:
            self._begin(trial)  # its worker failed before the trial could start
        del self._open[number]
        checkpoint = trial.checkpoint.path if trial.checkpoint else None
        epoch = self._last_epoch.get(number, 0)
        self._append(TrialEnd(**_when(trial), outcome=outcome, reason=redact(reason), epoch=epoch, checkpoint=checkpoint))

    def _append(self, event: TrialEvent) -> None:
        started = time.perf_counter()
        self._journal.append(event)
        self.busy_s += time.perf_counter() - started


def _when(trial: Trial) -> dict[str, Any]:
    """The fields that every event of `trial` has."""
    return {"time": time.time(), "number": number_of(trial)}


def number_of(trial: Trial) -> int:
    """A trial's number in its launch, which restarts do not change."""
    return int(trial.config["number"])


def waits(trial: Trial) -> bool:
    """Whether a trial that Ray calls complete continues as another Tune trial, once its population has been compared."""
    return bool((trial.last_result or {}).get(WAITS))


def is_disk_full(error: BaseException | str) -> bool:
    """Whether an error, of any library, says that the disk is full."""
    return os.strerror(errno.ENOSPC).lower() in str(error).lower()


def last_line(file: str | None) -> str:
    """The last line of a trial's error file, with secrets removed; empty if there is none."""
    path = Path(file) if file else None
    lines = path.read_text().strip().splitlines() if path and path.exists() else []
    return redact(lines[-1]) if lines else ""
