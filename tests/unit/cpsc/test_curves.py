"""Figures of a curve over epochs, against values computed by hand."""

import math

import pytest

from cpsc.curves import curve_statistics


def test_a_curve_is_summed_up_by_last_best_mean_and_population_deviation() -> None:
    statistics = curve_statistics([0.1, 0.5, 0.3])
    assert statistics[:5] == pytest.approx((0.3, 0.5, 0.3, math.sqrt(0.08 / 3), 0.08 / 3))
    alone = curve_statistics([0.4])
    assert (alone.last, alone.best, alone.mean, alone.std, alone.variance) == (0.4, 0.4, 0.4, 0.0, 0.0)
    assert (alone.second_half_mean, alone.second_half_std, alone.last_10_mean) == (0.4, 0.0, 0.4)


@pytest.mark.parametrize(
    ("values", "mean", "variance"),
    [([0.0, 0.1, 0.5, 0.7], 0.6, 0.01), ([0.0, 0.1, 0.4, 0.4, 0.7], 0.5, 0.02), ([0.9, 0.2], 0.2, 0.0)],
    ids=["even", "odd: the middle belongs to it", "two"],
)
def test_the_second_half_of_a_curve_has_statistics_of_its_own(values: list[float], mean: float, variance: float) -> None:
    statistics = curve_statistics(values)
    assert statistics.second_half_mean == pytest.approx(mean)
    assert statistics.second_half_variance == pytest.approx(variance, abs=1e-12)
    assert statistics.second_half_std == pytest.approx(math.sqrt(variance), abs=1e-9)


def test_the_last_ten_epochs_are_averaged_or_all_where_there_are_fewer() -> None:
    assert curve_statistics([100.0, *range(10)]).last_10_mean == pytest.approx(4.5)
    assert curve_statistics([0.0, 3.0]).last_10_mean == pytest.approx(1.5)


def test_a_climb_to_a_plateau_has_a_published_variance_only_as_a_deviation_in_points() -> None:
    climb = curve_statistics([0.10, 0.30, 0.60, 0.85, 0.90] + 25 * [0.92])
    assert 10 < 100 * climb.std < 24
    assert climb.variance == pytest.approx(climb.std**2)
    assert climb.second_half_std < 0.01 < climb.std


def test_the_deviation_of_a_flat_curve_is_zero_and_not_the_root_of_a_rounding_error() -> None:
    assert curve_statistics([0.1] * 7).std == pytest.approx(0.0, abs=1e-12)
