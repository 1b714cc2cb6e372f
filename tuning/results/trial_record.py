"""A trial as it was recorded: what it ran with, its curves, its result."""

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
"""Agreement with the teacher on the probe set before the first step; it stands at the first epoch."""


@dataclass(frozen=True, kw_only=True)
class TrialTimeline:
    """Where and when a trial ran, as MLflow was told; times in seconds since 1970.

    `reported`: by epoch, when its result came; `retried`: when the trial was begun again after a failure.
    """

    node: str = ""
    started: float | None = None
    ended: float | None = None
    reported: Mapping[int, float] = field(default_factory=dict)
    retried: Sequence[float] = ()


@dataclass(frozen=True, kw_only=True)
class TrialRecord:
    """One trial as it was recorded. `curves`: by metric, the value at each epoch; `run_id`: None if read from a journal.

    `point`: the values that the search chose, by dotted path; `params`: all, and facts, as texts; where it took over others, those
    that it has ended with. `finalist_of`: the trial whose values a finalist's run repeats under another seed; None of those that
    the search has proposed.
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
    """What the student of its best epoch has right; None where that was not recorded."""
    finalist_of: int | None = None
    exploits: Sequence[Exploit] = ()
    """What it has taken over of other trials of its population, in their order. What it was before is no part of its result."""
    first_point: Mapping[str, Any] = field(default_factory=dict)
    """What it began with, where it has taken over others."""

    @property
    def cost(self) -> tuple[float, float]:
        """Multiply-adds and parameters of its student; none where that is not recorded."""
        macs, parameters = (number_in(self.params.get(f"student.{name}", "")) for name in ("macs", "parameters"))
        return macs or 0.0, parameters or 0.0

    @property
    def is_over(self) -> bool:
        """Ended for good: it neither runs nor waits for a resume."""
        return self.outcome not in (None, Outcome.INTERRUPTED)

    @property
    def state(self) -> str:
        """Its outcome, or that it runs, in a word."""
        return self.outcome.value if self.outcome else RUNNING

    @property
    def num_epochs(self) -> int:
        return max((max(curve) for curve in self.curves.values() if curve), default=0)

    def by_epoch(self) -> Iterator[tuple[int, dict[str, float]]]:
        """Each epoch with what was measured at it."""
        for epoch in sorted({epoch for curve in self.curves.values() for epoch in curve}):
            yield epoch, {name: curve[epoch] for name, curve in self.curves.items() if epoch in curve}

    @property
    def seconds(self) -> float:
        """Time that its epochs took, as far as it was loaded."""
        return sum(self.curves.get("epoch_s", {}).values())

    def best_epoch(self, objective: str) -> int | None:
        """The epoch whose student is the trial's result; None where it has none."""
        since = self.exploits[-1].epoch if self.exploits else 0
        curve = {epoch: value for epoch, value in self.curves.get(objective, {}).items() if epoch > since}
        if not curve or self.outcome is Outcome.DIVERGED:
            return None
        return best_epoch(curve, self.curves.get("probe_kl", {}))

    def at_best(self, metric: str, objective: str) -> float | None:
        """`metric` of the trial's result."""
        epoch = self.best_epoch(objective)
        return None if epoch is None else self.curves.get(metric, {}).get(epoch)


def latencies_in(params: Mapping[str, str]) -> dict[str, float]:
    """By architecture, what a launch's params tell of milliseconds for an image."""
    found = {name.removeprefix(LATENCY): number_in(text) for name, text in params.items() if name.startswith(LATENCY)}
    return {arch: value for arch, value in found.items() if value is not None}


def number_in(text: str) -> float | None:
    """The number that `text` is; None where it is none."""
    try:
        return float(text)
    except ValueError:
        return None


def with_exploits(trial: TrialRecord, exploits: Sequence[Exploit]) -> TrialRecord:
    """`trial` as it has gone on after `exploits`, its point and params as it began."""
    if not exploits:
        return trial
    point = dict(exploits[-1].point)
    params = {**trial.params, **{path: str(value) for path, value in point.items()}}
    return replace(trial, point=point, params=params, exploits=tuple(exploits), first_point=trial.point)
