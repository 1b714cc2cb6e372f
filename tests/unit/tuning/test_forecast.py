"""The forecast of a sweep: what its trials took, how many live, how many run at a time, and what is yet to come."""

import random
import statistics
from collections.abc import Sequence
from dataclasses import replace

import pytest
from ray.tune.schedulers import TrialScheduler

from tests.support.events import made
from tuning.launch.events import AttemptStart, Epoch, LaunchEnd, TrialEnd, TrialStart
from tuning.outcome import Outcome
from tuning.search.asha import ResumableAsha
from tuning.study.config import PruneConfig
from tuning.sweep.forecast import LEARNED_SHARE, Forecast, Plan, Rung

EPOCH_S = 10.0


def run_trials(forecast: Forecast, numbers: Sequence[int], *, begin: float, epochs: int, is_finalist: bool = False) -> float:
    """Trials that start together and end after so many epochs -> when."""
    now = begin
    for number in numbers:
        forecast.start(number, now, length=4, is_finalist=is_finalist)
    for epoch in range(1, epochs + 1):
        now += EPOCH_S
        for number in numbers:
            forecast.report(number, epoch, now, epoch_s=EPOCH_S)
    for number in numbers:
        forecast.end(number, now)
    return now


def left_s(forecast: Forecast, now: float) -> float:
    left = forecast.left(now)
    assert left.seconds is not None
    return left.seconds


def test_before_a_trial_starts_nothing_is_known_and_before_its_first_result_a_lower_bound() -> None:
    forecast = Forecast(Plan(num_trials=2, epochs=4))
    assert str(forecast.left(0.0)) == "time left not known yet"
    forecast.start(0, 0.0, length=4, is_finalist=False)
    forecast.start(1, 0.0, length=4, is_finalist=False)
    assert str(forecast.left(20.0)) == "over 60 s left"


@pytest.mark.parametrize(("num_trials", "rounds"), [(2, 0), (4, 1), (5, 2), (8, 3)])
def test_trials_that_nothing_ends_take_whole_rounds(num_trials: int, rounds: int) -> None:
    forecast = Forecast(Plan(num_trials=num_trials, epochs=4))
    now = run_trials(forecast, [0, 1], begin=0.0, epochs=4)
    assert left_s(forecast, now) == pytest.approx(rounds * 4 * EPOCH_S)
    assert forecast.num_trials == num_trials


def test_it_shrinks_within_an_epoch_and_not_below_what_the_rest_takes() -> None:
    forecast = Forecast(Plan(num_trials=1, epochs=4))
    forecast.start(0, 0.0, length=4, is_finalist=False)
    forecast.report(0, 1, EPOCH_S, epoch_s=EPOCH_S)
    assert [left_s(forecast, EPOCH_S + waited) for waited in (0.0, 4.0, 10.0)] == pytest.approx([30.0, 26.0, 20.0])
    assert left_s(forecast, EPOCH_S + 15.0) == pytest.approx(30.0), "an epoch that is overdue says that epochs take longer"


def test_an_epoch_that_was_trained_beforehand_counts_as_long_as_it_took_to_train() -> None:
    forecast = Forecast(Plan(num_trials=1, epochs=4))
    forecast.start(0, 0.0, length=4, is_finalist=False)
    forecast.report(0, 1, 0.1, epoch_s=EPOCH_S)
    assert left_s(forecast, 0.1) == pytest.approx(30.0)


def test_finalists_follow_once_the_search_is_over() -> None:
    forecast = Forecast(Plan(num_trials=3, epochs=4, finalists=2, finalist_epochs=8))
    now = run_trials(forecast, [0, 1], begin=0.0, epochs=4)
    assert left_s(forecast, now) == pytest.approx(4 * EPOCH_S + 8 * EPOCH_S)
    assert forecast.num_trials == 5
    forecast.end_search(finalists=1)
    assert (left_s(forecast, now), forecast.num_trials) == (pytest.approx(8 * EPOCH_S), 3)
    run_trials(forecast, [2], begin=now, epochs=4, is_finalist=True)
    forecast.end_search(finalists=0)
    assert forecast.num_trials == 3


@pytest.mark.parametrize(
    ("budget", "left"), [({"epoch_budget": 12}, 40.0), ({"time_budget_s": 60.0}, 40.0), ({"epoch_budget": 8}, 0.0)]
)
def test_a_budget_ends_it_before_its_trials_are_used_up(budget: dict[str, float], left: float) -> None:
    forecast = Forecast(Plan(num_trials=100, epochs=4, **budget))  # type: ignore[arg-type]
    now = run_trials(forecast, [0, 1], begin=0.0, epochs=4)
    assert left_s(forecast, now) == pytest.approx(left)


def test_a_launch_that_is_resumed_knows_what_earlier_attempts_took_and_left_unfinished() -> None:
    forecast = Forecast(Plan(num_trials=2, epochs=4))
    about = {"number": 0, "metrics": {"epoch_s": EPOCH_S}}
    forecast.hear(
        [
            made(AttemptStart),
            made(TrialStart),
            made(Epoch, time=10.0, epoch=1, **about),
            made(Epoch, time=20.0, epoch=2, **about),
            made(TrialEnd, time=25.0, outcome=Outcome.INTERRUPTED, epoch=2),
            made(LaunchEnd, time=25.0, status="KILLED"),
            made(AttemptStart, time=1000.0, attempt=1),
        ],
        4,
    )
    assert left_s(forecast, 1000.0) == pytest.approx(2 * EPOCH_S + 4 * EPOCH_S)
    assert forecast.share_done(1000.0, 75.0) == pytest.approx(25.0 / 100.0)
    forecast.start(0, 1000.0, length=4, is_finalist=False)
    assert left_s(forecast, 1000.0) == pytest.approx(2 * EPOCH_S + 4 * EPOCH_S)


def test_of_trials_that_are_alike_as_many_pass_a_rung_as_rays_scheduler_lets() -> None:
    passed = [0] * 6
    draws = random.Random(0)
    for _ in range(400):
        asha = ResumableAsha(PruneConfig(grace_epochs=1, reduction_factor=3), epochs=3, metric="score")
        for place in range(6):
            trial = _Numbered(place)
            asha.on_trial_add(None, trial)  # type: ignore[arg-type]
            decision = asha.on_trial_result(None, trial, {"epoch": 1, "score": draws.random()})  # type: ignore[arg-type]
            passed[place] += decision == TrialScheduler.CONTINUE
    assert [count / 400 for count in passed] == pytest.approx([Rung(1, 3).share(place, 0.0) for place in range(6)], abs=0.06)


class _Numbered:
    def __init__(self, number: int) -> None:
        self.config = {"number": number}


def test_pruned_trials_take_what_pruning_leaves_of_them() -> None:
    """Forty trials, of which those that pass the rung run nine epochs."""
    forecast = Forecast(Plan(num_trials=40, epochs=9, rungs=[1], reduction_factor=3))
    now = run_trials(forecast, [0, 1], begin=0.0, epochs=1)
    expected = sum(1 + 8 * Rung(1, 3).share(judged, 0.0) for judged in range(2, 40)) * EPOCH_S / 2
    assert left_s(forecast, now) == pytest.approx(expected, rel=0.25)


def test_a_search_whose_trials_pass_more_often_than_by_chance_is_expected_to_go_on_like_that() -> None:
    rung = Rung(1, 3)
    for _ in range(30):
        rung.judge(passed=True, learned=0.0)
    assert rung.share(30, 0.0) > 1.5 * Rung(1, 3).share(30, 0.0)
    assert statistics.fmean([rung.share(0, 0.0), Rung(1, 3).share(0, 0.0)]) == 1.0


def test_trials_of_a_sampler_that_learns_go_on_more_often_the_later_they_are_proposed() -> None:
    plan = Plan(num_trials=40, epochs=9, rungs=(1, 3), reduction_factor=3, startup_trials=6)
    assert [plan.learned(before) for before in (0, 6, 18, 30, 39)] == [0.0, 0.0, 0.5, 1.0, 1.0]
    assert replace(plan, startup_trials=None).learned(39) == 0.0, "random search never learns"
    rung = Rung(1, 3)
    shares = [rung.share(30, learned) for learned in (0.0, 0.5, 1.0)]
    assert shares == sorted(shares)
    assert shares[-1] == LEARNED_SHARE
    assert rung.share(0, 1.0) == 1.0, "the first has nothing to be compared with"


def test_what_is_expected_of_a_sampler_that_learns_is_no_surprise() -> None:
    rung = Rung(1, 3)
    for trial in range(60):
        rung.judge(passed=trial % 20 < 13, learned=1.0)
    assert rung.share(60, 1.0) == pytest.approx(LEARNED_SHARE, abs=0.02)
