"""How well neighbours predict a trial: leave-one-out over the trials of a record."""

import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from tuning.results.model import spearman
from tuning.simulation.lookup import CurveLookup
from tuning.simulation.record import Record, RecordedCurves
from tuning.study.distributions import Distribution


@dataclass(frozen=True, kw_only=True)
class LookupQuality:
    """How curves looked up without the trial itself compare with its own, over all trials.

    `first`, `result`: Spearman's rank correlation of the objective after one epoch, and at each trial's result; `test_accuracy`:
    that of the results' test accuracies; None if one side is constant. `error`: median absolute difference of test accuracies.
    """

    neighbours: int
    first: float | None
    result: float | None
    test_accuracy: float | None
    error: float


def lookup_quality(record: Record, space: Mapping[str, Distribution], *, neighbours: int) -> LookupQuality:
    """Leave out one trial at a time. ConfigError if the record has no labels, or too few trials for `neighbours`."""
    record.accuracies(record.objective)
    lookup = CurveLookup(record, space, neighbours=neighbours)
    pairs = [(trial, lookup(trial.point, without=index)) for index, trial in enumerate(record.trials)]
    accuracies = [(_result(own, "test_accuracy", record), _result(other, "test_accuracy", record)) for own, other in pairs]
    return LookupQuality(
        neighbours=neighbours,
        first=_order([(_first(own, record), _first(other, record)) for own, other in pairs]),
        result=_order([(_result(own, record.objective, record), _result(other, record.objective, record)) for own, other in pairs]),
        test_accuracy=_order(accuracies),
        error=statistics.median(abs(own - other) for own, other in accuracies),
    )


def _first(curves: RecordedCurves, record: Record) -> float:
    return curves.values[record.objective][0] or 0.0


def _result(curves: RecordedCurves, metric: str, record: Record) -> float:
    """`metric` of the trial's result; 0, the worst, if it diverged."""
    return curves.at_best(metric, record.objective) or 0.0


def _order(pairs: Sequence[tuple[float, float]]) -> float | None:
    return spearman(*zip(*pairs, strict=True))
