"""Choice of a student: by score or, with finalists, by the mean over seeds; ties within the noise are broken by cost."""

import math
import statistics
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from scipy.special import stdtr

from cpsc.curves import curve_statistics
from cpsc.marks import is_distinct
from tuning.outcome import Outcome
from tuning.results.trial_record import TrialRecord

SIGNIFICANCE = 0.05


@dataclass(frozen=True, kw_only=True)
class Finalist:
    """The point of the search's trial `of`, and its `runs` under new seeds, best first.

    A run that diverged counts with the worst score; one that failed without a result is left out.
    """

    of: int
    runs: Sequence[TrialRecord]
    objective: str

    @property
    def best(self) -> TrialRecord | None:
        """The run with the best score, whose student is taken if this point is chosen; None if it has no result."""
        return self.runs[0] if self.runs[0].best_epoch(self.objective) is not None else None

    @property
    def scores(self) -> list[float]:
        """The objective of each run."""
        return [trial.at_best(self.objective, self.objective) or 0.0 for trial in self.runs]

    def over_seeds(self, metric: str) -> tuple[float, float] | None:
        """Mean and sample deviation of `metric` over the runs' results; the deviation of a single run is 0. None if none has it."""
        found = [trial.at_best(metric, self.objective) for trial in self.runs]
        values = self.scores if metric == self.objective else [value for value in found if value is not None]
        if not values:
            return None
        return statistics.fmean(values), statistics.stdev(values) if len(values) > 1 else 0.0

    @property
    def mean(self) -> float:
        return statistics.fmean(self.scores)

    def over_epochs(self) -> tuple[float, float]:
        """Mean and deviation of the score over the second half of the epochs, averaged over runs: what to expect without labels.

        PRE-DFKD, Binici et al. 2022 (arXiv:2201.03019), sec. 4.
        """
        curves = [trial.curves.get(self.objective, {}) for trial in self.runs]
        found = [curve_statistics([curve[epoch] for epoch in sorted(curve)] or [0.0]) for curve in curves]
        return statistics.fmean(half.second_half_mean for half in found), statistics.fmean(half.second_half_std for half in found)


def ranked(trials: Iterable[TrialRecord], objective: str) -> list[TrialRecord]:
    """Best first: highest objective, then lowest probe KL, then lowest number; trials without a result come last.

    The chosen trial is put first: the best run of the best finalist or, without finalists, the cheapest student among the trials
    that cannot be told from the best.
    """
    found = sorted(trials, key=lambda trial: _place(trial, objective))
    chosen = _chosen(found, objective)
    return found if chosen is None else [chosen, *(trial for trial in found if trial is not chosen)]


def ties_of(trials: Sequence[TrialRecord], objective: str) -> list[TrialRecord]:
    """The trials among `ranked` ones whose results, or whose finalists' means, cannot be told from the best."""
    finalists = finalists_of(trials, objective)
    if finalists:
        return [trial for finalist in _tied_finalists(finalists) if finalist is not finalists[0] for trial in finalist.runs]
    return [trial for trial in _tied(trials, objective) if trial is not trials[0]]


def finalists_of(trials: Iterable[TrialRecord], objective: str) -> list[Finalist]:
    """The finalists that can be compared, the chosen one first, the others by their means; empty if none was run.

    Only finalists with the largest number of runs are compared, because some may be ahead of others while they run.
    """
    groups: dict[int, list[TrialRecord]] = {}
    for trial in sorted(trials, key=lambda trial: _place(trial, objective)):
        if trial.finalist_of is not None and (trial.outcome is Outcome.DIVERGED or trial.best_epoch(objective) is not None):
            groups.setdefault(trial.finalist_of, []).append(trial)
    most = max(map(len, groups.values()), default=0)
    found = [Finalist(of=of, runs=runs, objective=objective) for of, runs in groups.items() if len(runs) == most]
    found.sort(key=lambda finalist: (-finalist.mean, finalist.of))
    tied = _tied_finalists(found)
    if not tied:
        return found
    first = min(tied, key=lambda finalist: (finalist.runs[0].cost, -_steadiness(finalist), -finalist.mean, finalist.of))
    return [first, *(finalist for finalist in found if finalist is not first)]


def _chosen(trials: Sequence[TrialRecord], objective: str) -> TrialRecord | None:
    finalists = finalists_of(trials, objective)
    if finalists and finalists[0].best is not None:
        return finalists[0].best
    tied = _tied(trials, objective)
    return min(tied, key=lambda trial: (trial.cost, _place(trial, objective))) if tied else None


def _tied(trials: Sequence[TrialRecord], objective: str) -> list[TrialRecord]:
    """The best of `trials` and those that cannot be told from it; empty if no trial has a result."""
    with_result = [trial for trial in trials if trial.best_epoch(objective) is not None]
    if not with_result:
        return []
    best = min(with_result, key=lambda trial: _place(trial, objective))
    return [trial for trial in with_result if trial is best or not _differ(best, trial)]


def _differ(one: TrialRecord, other: TrialRecord) -> bool:
    return one.marks is None or other.marks is None or is_distinct(one.marks, other.marks)


def _tied_finalists(finalists: Sequence[Finalist]) -> list[Finalist]:
    """The finalist with the highest mean and those that cannot be told from it."""
    best = max(finalists, key=lambda finalist: finalist.mean, default=None)
    return [other for other in finalists if other is best or (best is not None and not _means_differ(best, other))]


def _means_differ(one: Finalist, other: Finalist) -> bool:
    """Whether two finalists differ by more than their seeds do: Welch's test, or McNemar's for single runs."""
    if len(one.runs) == 1:
        return _differ(one.runs[0], other.runs[0])
    return welch(one.scores, other.scores) < SIGNIFICANCE


def welch(one: Sequence[float], other: Sequence[float]) -> float:
    """Two-sided p-value of Welch's test (1947) for different means. Each sample needs at least two values."""
    variances = [statistics.variance(values) / len(values) for values in (one, other)]
    difference = abs(statistics.fmean(one) - statistics.fmean(other))
    if not any(variances):
        return 0.0 if difference else 1.0
    freedom = sum(variances) ** 2 / sum(
        variance**2 / (len(values) - 1) for variance, values in zip(variances, (one, other), strict=True)
    )
    return 2 * float(stdtr(freedom, -difference / math.sqrt(sum(variances))))


def _steadiness(finalist: Finalist) -> float:
    """Mean over the late epochs minus deviation: what to expect without labels to pick an epoch by."""
    mean, deviation = finalist.over_epochs()
    return mean - deviation


def _place(trial: TrialRecord, objective: str) -> tuple[float, float, int]:
    value, kl = trial.at_best(objective, objective), trial.at_best("probe_kl", objective)
    return (-value if value is not None else 1.0, kl if kl is not None else 0.0, trial.number)
