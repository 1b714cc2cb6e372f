"""A launch and its trials as results: curves, the blind choice, and how good that was."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import TYPE_CHECKING, Any

from cpsc.marks import Marks, is_distinct
from cpsc.selection import best_epoch
from tuning.outcome import Outcome

if TYPE_CHECKING:
    from tuning.study import Study

CURVES = ("exam_score", "held_out_agreement", "probe_overlap", "probe_agreement", "probe_kl", "test_accuracy")


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

    `point`: the values that the search chose, by dotted path; `params`: all, and facts, as texts.
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

    @property
    def cost(self) -> tuple[float, float]:
        """Multiply-adds and parameters of its student; none where that is not recorded."""
        macs, parameters = (number_in(self.params.get(f"student.{name}", "")) for name in ("macs", "parameters"))
        return macs or 0.0, parameters or 0.0

    @property
    def num_epochs(self) -> int:
        return max((max(curve) for curve in self.curves.values() if curve), default=0)

    @property
    def seconds(self) -> float:
        """Time that its epochs took, as far as it was loaded."""
        return sum(self.curves.get("epoch_s", {}).values())

    def best_epoch(self, objective: str) -> int | None:
        """The epoch whose student is the trial's result; None where it has none."""
        curve = self.curves.get(objective, {})
        if not curve or self.outcome is Outcome.DIVERGED:
            return None
        return best_epoch(curve, self.curves.get("probe_kl", {}))

    def at_best(self, metric: str, objective: str) -> float | None:
        """`metric` of the trial's result."""
        epoch = self.best_epoch(objective)
        return None if epoch is None else self.curves.get(metric, {}).get(epoch)


@dataclass(frozen=True, kw_only=True)
class Launch:
    """One sweep: its run (None if read from a journal), its settings and its trials, best first."""

    name: str
    run_id: str | None
    objective: str
    epochs: int
    trials: Sequence[TrialRecord]
    study: str = ""

    @property
    def chosen(self) -> TrialRecord | None:
        """The trial with the best score, or the cheapest of those that cannot be told from it."""
        return self.trials[0] if self.trials and self.trials[0].best_epoch(self.objective) is not None else None

    @cached_property
    def ties(self) -> Sequence[TrialRecord]:
        """The other trials whose results cannot be told from that of the best score: see `cpsc.marks.is_distinct`."""
        return [trial for trial in _tied(self.trials, self.objective) if trial is not self.chosen]

    @property
    def accuracy_metric(self) -> str:
        """Test accuracy, where the launch has measured it; the blind score where there are no labels."""
        has_labels = any(trial.curves.get("test_accuracy") for trial in self.trials)
        return "test_accuracy" if has_labels else self.blind_metric

    @property
    def blind_metric(self) -> str:
        """The score that needs no labels: what the search went by, or would have gone by."""
        return "probe_agreement" if self.objective == "test_accuracy" else self.objective

    @property
    def epochs_run(self) -> int:
        return sum(trial.num_epochs for trial in self.trials)

    @property
    def epochs_unpruned(self) -> int:
        """What running every trial to the end would have cost."""
        return self.epochs * len(self.trials)

    def agreements_and_accuracies(self) -> list[tuple[float, float]]:
        """The blind score and test accuracy at every trial-epoch that has both."""
        return [
            (value, trial.curves["test_accuracy"][epoch])
            for trial in self.trials
            for epoch, value in trial.curves[self.blind_metric].items()
            if epoch in trial.curves["test_accuracy"]
        ]

    def rank_correlation(self) -> float | None:
        """Spearman's, of the blind score and test accuracy over all trial-epochs; None below three or without labels."""
        pairs = self.agreements_and_accuracies()
        return None if len(pairs) < 3 else spearman(*zip(*pairs, strict=True))

    def regret(self) -> float | None:
        """Best test accuracy among the trials' results minus that of the chosen one; None without labels."""
        accuracies = [accuracy for trial in self.trials if (accuracy := trial.at_best("test_accuracy", self.objective)) is not None]
        chosen = self.chosen.at_best("test_accuracy", self.objective) if self.chosen else None
        return None if chosen is None else max(accuracies) - chosen

    def count(self, outcome: Outcome) -> int:
        return sum(trial.outcome is outcome for trial in self.trials)


@dataclass(frozen=True, kw_only=True)
class SweepSummary:
    """What a sweep leaves behind."""

    study: "Study"
    launch: Launch
    model_uri: str | None
    """The registered champion; None where no trial has a result or the tracking server is away."""
    num_undelivered: int
    """Records that wait in the journal because the tracking server is away."""
    elapsed_s: float
    tracking_share: float
    """Share of the sweep's wall time that tracking calls took, in callbacks and in the delivering thread."""
    earlier_s: float = 0.0
    """What earlier attempts took, each up to its last sign of life; `elapsed_s` and `tracking_share` are this one's."""


def spearman(left: Sequence[float], right: Sequence[float]) -> float | None:
    """Rank correlation of two rows of numbers; None where one of them says the same throughout."""
    if len(set(left)) == 1 or len(set(right)) == 1:
        return None
    import pandas as pd  # not above: it takes longer than all else here

    return float(pd.Series(left).rank().corr(pd.Series(right).rank()))


def ranked(trials: Iterable[TrialRecord], objective: str) -> list[TrialRecord]:
    """Best first: highest objective, then lowest probe KL, then the earlier; those without a result come last.

    Before all stands the one that is chosen: of those that cannot be told from the best the one with the cheapest student.
    """
    found = sorted(trials, key=lambda trial: _place(trial, objective))
    tied = _tied(found, objective)
    if not tied:
        return found
    cheapest = min(tied, key=lambda trial: (trial.cost, _place(trial, objective)))
    return [cheapest, *(trial for trial in found if trial is not cheapest)]


def _tied(trials: Sequence[TrialRecord], objective: str) -> list[TrialRecord]:
    """The best of `trials` and those that cannot be told from it; none where no trial has a result."""
    with_result = [trial for trial in trials if trial.best_epoch(objective) is not None]
    if not with_result:
        return []
    best = min(with_result, key=lambda trial: _place(trial, objective))
    return [
        trial
        for trial in with_result
        if trial is best or (trial.marks is not None and best.marks is not None and not is_distinct(best.marks, trial.marks))
    ]


def _place(trial: TrialRecord, objective: str) -> tuple[float, float, int]:
    value, kl = trial.at_best(objective, objective), trial.at_best("probe_kl", objective)
    return (-value if value is not None else 1.0, kl if kl is not None else 0.0, trial.number)


def number_in(text: str) -> float | None:
    """The number that `text` is; None where it is none."""
    try:
        return float(text)
    except ValueError:
        return None
