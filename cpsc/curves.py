"""Statistics of a curve over a run's epochs, without tensors: what stopping blindly would give."""

import math
from collections.abc import Sequence
from typing import NamedTuple


class CurveStatistics(NamedTuple):
    """Statistics of an accuracy over a run's epochs; mean and deviation tell what stopping blindly would give.

    PRE-DFKD, Binici et al. 2022 (arXiv:2201.03019), sec. 4. Deviations are population deviations: `std` in the accuracy's unit,
    `variance` in its square. What was published there as a variance, 10 to 24, can only be a deviation in percentage points:
    compare it with 100 * `std`. The second half of the epochs shows stability rather than the initial rise.
    """

    last: float
    best: float
    mean: float
    std: float
    variance: float
    second_half_mean: float
    second_half_std: float
    second_half_variance: float
    last_10_mean: float
    """Mean of the last 10 epochs, or of all if there are fewer."""


def curve_statistics(values: Sequence[float]) -> CurveStatistics:
    """Statistics of a non-empty curve; with an odd number of epochs the middle one belongs to the second half."""
    second_half = values[len(values) // 2 :]
    variance, second_half_variance = _variance(values), _variance(second_half)
    return CurveStatistics(
        last=values[-1],
        best=max(values),
        mean=_mean(values),
        std=math.sqrt(variance),
        variance=variance,
        second_half_mean=_mean(second_half),
        second_half_std=math.sqrt(second_half_variance),
        second_half_variance=second_half_variance,
        last_10_mean=_mean(values[-10:]),
    )


def _mean(values: Sequence[float]) -> float:
    return math.fsum(values) / len(values)


def _variance(values: Sequence[float]) -> float:
    mean = _mean(values)
    return math.fsum((value - mean) ** 2 for value in values) / len(values)
