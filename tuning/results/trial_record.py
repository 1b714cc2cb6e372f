"""A recorded trial: its values, its curves, its result."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from cpsc.marks import Marks
from cpsc.selection import best_epoch
from tuning.launch.events import LATENCY
from tuning.lineage import Exploit
from tuning.outcome import RUNNING, Outcome

CURVES = ("exam_score", "held_out_agreement", "probe_overlap", "probe_agreement", "probe_kl", "test_accuracy")
UNTRAINED = "untrained_agreement"
"""Agreement with the teacher on the probe set before the first step; recorded at the first epoch."""


@dataclass(frozen=True, kw_only=True)
class TrialTimeline:
    """Where and when a trial ran, according to MLflow; times in seconds since 1970.

    `reported`: by epoch, when its result arrived; `retried`: when the trial was restarted after a failure.
    """

    node: str = ""
    started: float | None = None
    ended: float | None = None
    reported: Mapping[int, float] = field(default_factory=dict)
    retried: Sequence[float] = ()


@dataclass(frozen=True, kw_only=True)
class TrialRecord:
    """One trial as it was recorded. `curves`: by metric, the value at each epoch; `run_id`: None if read from a journal.

    `point`: the values that the search chose, by dotted path; `params`: all values and facts, as texts. If the trial copied others
    of its population, both are those that it ended with. `finalist_of`: the trial whose values a finalist's run repeats under
    another seed; None for trials that the search proposed.
    """

    number: int
    run_id: str | None
    outcome: Outcome | None
    reason: str
    params: Mapping[str, str]
    curves: Mapping[str, Mapping[int, float]]
    point: Mapping[str, Any] = field(default_factory=dict)
    course: TrialTimeline = field(default_factory=TrialTimeline)
    marks: Marks | None = None
    """Which images the student of the best epoch gets right; None if not recorded."""
    finalist_of: int | None = None
    exploits: Sequence[Exploit] = ()
    """Copies of other trials of its population, in order. What it was before the last one is not part of its result."""
    first_point: Mapping[str, Any] = field(default_factory=dict)
    """The point that it began with, if it copied others."""

    @property
    def cost(self) -> tuple[float, float]:
        """Multiply-adds and parameters of its student; 0 if not recorded."""
        macs, parameters = (number_in(self.params.get(f"student.{name}", "")) for name in ("macs", "parameters"))
        return macs or 0.0, parameters or 0.0

    @property
    def is_over(self) -> bool:
        """Whether it has finally ended: it neither runs nor waits for a resume."""
        return self.outcome not in (None, Outcome.INTERRUPTED)

    @property
    def state(self) -> str:
        """Its outcome, or `RUNNING`, in one word."""
        return self.outcome.value if self.outcome else RUNNING

    @property
    def num_epochs(self) -> int:
        return max((max(curve) for curve in self.curves.values() if curve), default=0)

    def by_epoch(self) -> Iterator[tuple[int, dict[str, float]]]:
        """Each epoch with its metrics."""
        for epoch in sorted({epoch for curve in self.curves.values() for epoch in curve}):
            yield epoch, {name: curve[epoch] for name, curve in self.curves.items() if epoch in curve}

    @property
    def seconds(self) -> float:
        """Seconds that its epochs took, if the curve `epoch_s` was loaded."""
        return sum(self.curves.get("epoch_s", {}).values())

    def best_epoch(self, objective: str) -> int | None:
        """The epoch whose student is the trial's result; None if it has no result."""
        since = self.exploits[-1].epoch if self.exploits else 0
        curve = {epoch: value for epoch, value in self.curves.get(objective, {}).items() if epoch > since}
        if not curve or self.outcome is Outcome.DIVERGED:
            return None
        return best_epoch(curve, self.curves.get("probe_kl", {}))

    def at_best(self, metric: str, objective: str) -> float | None:
        """`metric` at the best epoch."""
        epoch = self.best_epoch(objective)
        return None if epoch is None else self.curves.get(metric, {}).get(epoch)


def latencies_in(params: Mapping[str, str]) -> dict[str, float]:
    """Milliseconds per image by architecture, from a launch's params."""
    found = {name.removeprefix(LATENCY): number_in(text) for name, text in params.items() if name.startswith(LATENCY)}
    return {arch: value for arch, value in found.items() if value is not None}


def number_in(text: str) -> float | None:
    """Parse `text` as a number; None if it is none."""
    try:
        return float(text)
    except ValueError:
        return None


def with_exploits(trial: TrialRecord, exploits: Sequence[Exploit]) -> TrialRecord:
    """`trial`, read with the point and params that it began with, as it is after `exploits`."""
    if not exploits:
        return trial
    point = dict(exploits[-1].point)
    params = {**trial.params, **{path: str(value) for path, value in point.items()}}
    return replace(trial, point=point, params=params, exploits=tuple(exploits), first_point=trial.point)
