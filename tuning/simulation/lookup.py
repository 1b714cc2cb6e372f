"""What a trial at any point would have reported: the curves of the nearest recorded trials."""

from collections.abc import Mapping, Sequence

import numpy as np

from cpsc.errors import ConfigError
from tuning.simulation.distance import Floats, SpaceDistances
from tuning.simulation.record import METRICS, Record, RecordedCurves
from tuning.study.distributions import Distribution
from tuning.study.nested_keys import Point


class CurveLookup:
    """Answers points of `space` with the curves of the nearest recorded trials; among equally near ones, the first counts.

    `neighbours`: number of trials that are averaged, epoch by epoch, weighted by inverse distance (Shepard 1968). If the
    nearest diverged, or lies at the point itself, it answers alone; other diverged trials are left out.
    """

    def __init__(self, record: Record, space: Mapping[str, Distribution], *, neighbours: int = 1) -> None:
        if not 1 <= neighbours <= len(record.trials):
            raise ConfigError(f"--neighbours: must be in 1..{len(record.trials)}, the number of recorded trials, got {neighbours}")
        self._trials = record.trials
        self._distances = SpaceDistances(space, [trial.point for trial in record.trials])
        self._neighbours = neighbours

    def __call__(self, point: Point, *, without: int | None = None) -> RecordedCurves:
        """The curves at `point`, as if the trial of index `without` were not there."""
        distances = self._distances.to(point)
        if without is not None:
            distances[without] = np.inf
        nearest = [int(index) for index in np.argsort(distances, kind="stable")[: self._neighbours]]
        first = self._trials[nearest[0]]
        if self._neighbours == 1 or first.diverged or distances[nearest[0]] == 0:
            return first
        whole = [index for index in nearest if not self._trials[index].diverged and np.isfinite(distances[index])]
        return _mean([self._trials[index] for index in whole], 1 / distances[whole])


def _mean(trials: Sequence[RecordedCurves], weights: Floats) -> RecordedCurves:
    """The weighted mean of the trials' curves, None where one of them has no value; with the number and point of the first."""
    values = {
        metric: [_weighted(column, weights) for column in zip(*(trial.values[metric] for trial in trials), strict=True)]
        for metric in METRICS
    }
    return RecordedCurves(number=trials[0].number, point=trials[0].point, diverged=False, values=values)


def _weighted(values: Sequence[float | None], weights: Floats) -> float | None:
    known = [value for value in values if value is not None]
    return float(np.average(known, weights=weights)) if len(known) == len(values) else None
