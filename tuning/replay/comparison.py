"""Comparison of a replay with the trial's record: which numbers are equal to the last bit, and which is the first that is not."""

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from tuning.outcome import Outcome
from tuning.results.recorded_trial import RecordedTrial
from tuning.tracking.tags import MAX_TAG, RETRIES_METRIC
from tuning.trial.system_metrics import SYSTEM
from tuning.trial.trainable import loggable_metrics

_OF_THE_MOMENT = frozenset(
    {"train_s", "generation_s", "distillation_s", "epoch_s", "images_per_s", "peak_memory_bytes", RETRIES_METRIC}
)


def is_of_the_moment(metric: str) -> bool:
    """Whether `metric` depends on the machine and the moment, so that it differs between any two runs."""
    return metric in _OF_THE_MOMENT or metric.startswith(SYSTEM)


class Difference(NamedTuple):
    """One number that differs from the record."""

    epoch: int
    metric: str
    here: float
    recorded: float

    def __str__(self) -> str:
        return f"{self.metric} {self.here:.9g} here, {self.recorded:.9g} recorded"


class Comparison:
    """Compares a replay's results with the record, one by one; `changed`: what was changed on purpose, in words."""

    def __init__(self, trial: RecordedTrial, changed: Sequence[str] = ()) -> None:
        self._trial = trial
        self._changed = list(changed)
        self._first: Difference | None = None
        self._num_metrics: dict[int, int] = {}
        self._unmatched: set[str] = set()
        self._beyond: list[int] = []
        self._end = ""

    @property
    def expects_divergence(self) -> bool:
        """Whether the record says that the trial diverged."""
        return self._trial.outcome is Outcome.DIVERGED

    @property
    def is_as_recorded(self) -> bool:
        """Whether everything so far was as recorded."""
        return self._first is None and not self._end

    def add(self, result: Mapping[str, Any]) -> str:
        """Compare one epoch's result -> the finding, in words."""
        epoch, recorded = int(result["epoch"]), self._trial.at(int(result["epoch"]))
        recorded = {name: value for name, value in recorded.items() if not is_of_the_moment(name)}
        if not recorded:
            self._beyond.append(epoch)
            return "not in the record"
        here = loggable_metrics(result)
        self._unmatched |= recorded.keys() - here.keys()
        shared = [name for name in here if name in recorded]
        self._num_metrics[epoch] = len(shared)
        found = [Difference(epoch, name, here[name], recorded[name]) for name in shared if here[name] != recorded[name]]
        self._first = self._first or next(iter(found), None)
        self._check_end(result)
        if not found:
            return "as recorded"
        told = next((difference for difference in found if difference.metric == "probe_agreement"), found[0])
        return f"{len(found)} of {len(shared)} metrics differ, {told}"

    def verdict(self) -> str:
        """The finding on all epochs, in one or a few lines."""
        lines = [self._about_numbers()]
        if self._end:
            lines.append(self._end)
        if self._beyond and self._trial.outcome is Outcome.FAILED:
            lines.append(f"did not fail here; recorded: {self._trial.reason}")
        if self._unmatched:
            lines.append(f"recorded but not measured here: {', '.join(sorted(self._unmatched))}")
        if self._beyond and self._num_metrics:
            lines.append(f"epochs {self._beyond[0]} to {self._beyond[-1]} are not in the record")
        return "\n".join(lines)

    def _about_numbers(self) -> str:
        if not self._num_metrics:
            return "nothing to compare: none of these epochs is in the record"
        if self._first is None:
            epochs = len(self._num_metrics)
            numbers = sum(self._num_metrics.values())
            return f"identical to the record in {epochs} epoch{'s' if epochs > 1 else ''}, all {numbers} numbers"
        cause = f", with {'; '.join(self._changed)}" if self._changed else ""
        return f"differs from the record from epoch {self._first.epoch} on{cause}: {self._first}"

    def _check_end(self, result: Mapping[str, Any]) -> None:
        """Note if the trial ended differently than recorded."""
        trial, epoch = self._trial, int(result["epoch"])
        if epoch != trial.last_epoch or not self.expects_divergence:
            return
        if not result["diverged"]:
            self._end = f"did not diverge in epoch {epoch}; recorded: {trial.reason}"
        elif result["reason"][:MAX_TAG] != trial.reason:
            self._end = f"diverged for another reason: {result['reason']}; recorded: {trial.reason}"
