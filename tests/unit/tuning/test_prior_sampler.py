"""What the prior draws, what is called good among trials of unequal length, who proposes what, and that it pays."""

import statistics
from collections.abc import Sequence
from typing import Any

import numpy as np
import optuna
import pytest
from optuna.samplers import TPESampler
from optuna.trial import FrozenTrial, TrialState, create_trial

from tests.benchmarks.samplers import NOISE, PUBLISHED, held, objective, point_at, prior_sampler, tpe
from tests.benchmarks.samplers import SPACE as BELL
from tuning.search.neighbourhood import Neighbourhood
from tuning.search.optuna_search import draw
from tuning.search.optuna_space import to_optuna
from tuning.search.prior_sampler import ETA, LARGEST_SHARE, NEAR, PriorSampler, best_first
from tuning.study.distributions import Distribution
from tuning.study.unit_interval import position_of

RATE, STEPS = Distribution("loguniform", (0.01, 1.0)), Distribution("randint", (1, 9))
KIND = Distribution("choice", ("a", "b", "c"))
SPACE = {"rate": RATE, "steps": STEPS, "kind": KIND, "of_b": Distribution("uniform", (0.0, 1.0), {"kind": ("b",)})}
CENTRE = {"rate": 0.1, "steps": 4, "kind": "b", "of_b": 0.9}


def drawn(path: str, deviation: float, centre: dict[str, Any] = CENTRE, count: int = 4000) -> list[Any]:
    rng, around = np.random.default_rng(0), Neighbourhood(SPACE, centre, deviation)
    return [around.draw(path, rng) for _ in range(count)]


def test_numbers_are_drawn_around_the_centre_on_their_scale_and_within_their_range() -> None:
    places = [position_of(RATE, value) for value in drawn("rate", 0.125)]
    assert statistics.mean(places) == pytest.approx(0.5, abs=0.01)
    assert statistics.stdev(places) == pytest.approx(0.125, abs=0.005)
    assert all(SPACE["of_b"].contains(value) for value in drawn("of_b", 0.5))


def test_without_a_centre_values_are_uniform() -> None:
    places = [position_of(RATE, value) for value in drawn("rate", 0.125, {})]
    assert statistics.stdev(places) == pytest.approx(12**-0.5, abs=0.01)
    kinds = drawn("kind", 0.125, {})
    assert [kinds.count(kind) / len(kinds) for kind in "abc"] == pytest.approx([1 / 3] * 3, abs=0.03)


def test_the_published_option_has_the_odds_of_one_over_the_deviation() -> None:
    kinds = drawn("kind", 0.25)
    assert kinds.count("b") / len(kinds) == pytest.approx(4 / 6, abs=0.03)
    assert Neighbourhood(SPACE, CENTRE, 0.25).density("kind", "b") == pytest.approx(3 * 4 / 6)


@pytest.mark.parametrize("deviation", [0.01, 0.25, 1.0])
@pytest.mark.parametrize("path", ["rate", "of_b"])
def test_densities_integrate_to_one(path: str, deviation: float) -> None:
    around, domain = Neighbourhood(SPACE, CENTRE, deviation), SPACE[path]
    lower, upper = domain.edges
    places = (np.arange(20_000) + 0.5) / 20_000
    values = lower * (upper / lower) ** places if path == "rate" else lower + places * (upper - lower)
    assert np.mean([around.density(path, value) for value in values]) == pytest.approx(1, abs=1e-3)


def sampler(space: dict[str, Distribution] = SPACE, *, seed: int = 0, num_first: int = 0, centre: Any = CENTRE) -> PriorSampler:
    return PriorSampler(
        space, {None: centre}, deviation=0.25, levels=[1, 3, 9], num_first=num_first, tpe=TPESampler(seed=seed), seed=seed
    )


def study_of(built: PriorSampler) -> optuna.Study:
    return optuna.create_study(sampler=built, direction="maximize", pruner=optuna.pruners.NopPruner())


def trial(values: dict[int, float], state: TrialState, point: dict[str, Any] = CENTRE, last: float | None = None) -> FrozenTrial:
    distributions = to_optuna({path: SPACE[path] for path in point})
    value = (last if last is not None else list(values.values())[-1]) if state is TrialState.COMPLETE else None
    return create_trial(state=state, value=value, params=point, distributions=distributions, intermediate_values=values)


def propose(study: optuna.Study, space: dict[str, Distribution] = SPACE) -> optuna.Trial:
    asked = study.ask()
    draw(asked, space, to_optuna(space))
    return asked


def numbered(trials: Sequence[FrozenTrial]) -> Sequence[FrozenTrial]:
    study = study_of(sampler())
    study.add_trials(trials)
    return study.trials


def ranked(*trials: FrozenTrial) -> list[int]:
    return [found.number for found in best_first(numbered(trials), [1, 3, 9])]


def test_trials_are_compared_at_the_highest_level_that_three_have_reached() -> None:
    pruned = [trial({1: 0.9}, TrialState.PRUNED), trial({1: 0.8}, TrialState.PRUNED)]
    further = [trial({1: 0.1 * n, 3: 0.5 - 0.1 * n}, TrialState.PRUNED) for n in range(2)]
    assert ranked(*pruned) == []
    assert ranked(*pruned, *further) == [0, 1, 3, 2]
    complete = trial({1: 0.3, 3: 0.45, 9: 0.9}, TrialState.COMPLETE)
    assert ranked(*pruned, *further, complete) == [2, 4, 3]


def test_a_diverged_trial_counts_by_its_worst_value_and_only_where_it_came_to() -> None:
    diverged = [trial({1: 0.9, 2: 0.0}, TrialState.COMPLETE) for _ in range(3)]
    assert ranked(*diverged, trial({1: 0.2}, TrialState.PRUNED))[0] == 3


def test_a_failed_trial_does_not_count() -> None:
    others = [trial({1: 0.1 * n}, TrialState.PRUNED) for n in range(3)]
    assert ranked(*others, trial({1: 0.9}, TrialState.FAIL)) == [2, 1, 0]


def shares(points: Sequence[dict[str, Any]]) -> tuple[float, float, float]:
    best = [trial({1: 1 - 0.01 * place}, TrialState.PRUNED, point) for place, point in enumerate(points)]
    return sampler().shares(best_first(numbered(best), [1, 3, 9]))


def test_before_anything_is_known_half_is_the_priors() -> None:
    assert shares([CENTRE] * (ETA - 1)) == (1 - LARGEST_SHARE, LARGEST_SHARE, 0.0)


def test_the_prior_proposes_where_it_has_paid_and_nothing_where_it_has_not() -> None:
    near = shares([CENTRE | {"rate": 0.1 + 0.01 * n} for n in range(3)])
    far = shares([{"rate": 1.0 - 0.01 * n, "steps": 8, "kind": "a"} for n in range(3)])
    assert sum(near) == pytest.approx(1)
    assert near[0] == pytest.approx(0.5, abs=0.05)
    assert far[0] > 0.75
    assert far[1] < 0.01


def test_the_first_proposals_lie_near_what_is_published_and_conditional_parameters_exist_where_they_should() -> None:
    study = study_of(sampler(num_first=1))
    study.enqueue_trial(CENTRE)
    assert propose(study).params == CENTRE
    first = [propose(study).params for _ in range(1 + max(NEAR))]
    assert all(abs(position_of(RATE, first[place]["rate"]) - 0.5) < 0.4 for place in NEAR)
    for number in range(25):
        asked = propose(study)
        assert ("of_b" in asked.params) is (asked.params["kind"] == "b")
        asked.report(1 - abs(asked.params["rate"] - 0.3), 1)
        study.tell(asked, state=TrialState.PRUNED if number % 2 else TrialState.FAIL)


@pytest.mark.parametrize(("published", "leads"), [(0.9, True), (0.1, False)])
def test_points_near_what_is_published_follow_if_that_is_better_than_the_first_of_tpes(published: float, leads: bool) -> None:
    space = {"rate": RATE}
    built = PriorSampler(
        space, {None: {"rate": 0.1}}, deviation=0.01, levels=[1], num_first=1, tpe=TPESampler(seed=0, n_startup_trials=100), seed=0
    )
    study = study_of(built)
    study.enqueue_trial({"rate": 0.1})
    for value in (published, 0.5):
        asked = propose(study, space)
        asked.report(value, 1)
        study.tell(asked, value)
    places = [position_of(RATE, propose(study, space).params["rate"]) for _ in NEAR]
    assert all((abs(place - 0.5) < 0.03) == leads for place in places), places


def test_what_is_published_beside_a_method_is_drawn_with_it() -> None:
    space = {"rate": RATE, "method": Distribution("choice", ("slow", "fast"))}
    centres = {None: {"rate": 0.1}, "slow": {"rate": 0.01}, "fast": {"rate": 1.0}}
    built = PriorSampler(
        space,
        centres,
        deviation=0.125,
        levels=[1],
        num_first=100,
        tpe=TPESampler(seed=0),
        seed=0,
    )
    study = study_of(built)
    points = [propose(study, space).params for _ in range(30)]
    assert {point["method"] for point in points} == {"slow", "fast"}
    assert all((point["rate"] > 0.1) is (point["method"] == "fast") for point in points)


def test_a_point_that_was_tried_is_not_proposed_again_while_there_are_others() -> None:
    space = {"kind": KIND, "flag": Distribution("choice", (True, False))}
    study = study_of(sampler(space, num_first=100, centre={"kind": "b", "flag": True}))
    points = [tuple(propose(study, space).params.values()) for _ in range(4)]
    assert len(set(points)) == 4


def proposals(seed: int, count: int = 16) -> list[dict[str, Any]]:
    study = study_of(sampler(seed=seed))
    points = []
    for _ in range(count):
        asked = propose(study)
        points.append(asked.params)
        asked.report(asked.params["rate"], 1)
        study.tell(asked, state=TrialState.PRUNED)
    return points


def test_seed_and_observations_decide_the_proposals() -> None:
    assert proposals(0) == proposals(0)
    assert proposals(0) != proposals(1)


def found_by(kind: str) -> tuple[list[list[float]], list[list[float]]]:
    """Over ten seeds, what is held after each trial by TPE, which does not know published values of this kind, and by the prior."""
    published, seeds = point_at(PUBLISHED[kind]), range(10)
    theirs = [held(tpe(seed), None, seed=seed, num_trials=40) for seed in seeds]
    return theirs, [held(prior_sampler(published, seed), published, seed=seed, num_trials=40) for seed in seeds]


def after(runs: list[list[float]], number: int) -> float:
    return statistics.median(found[number - 1] for found in runs)


@pytest.mark.slow
def test_a_good_prior_needs_half_of_tpes_trials() -> None:
    by_tpe, by_prior = found_by("near")
    assert after(by_prior, 10) > after(by_tpe, 20)


@pytest.mark.slow
def test_a_wrong_prior_costs_few_trials() -> None:
    by_tpe, by_prior = found_by("far off")
    assert after(by_prior, 24) > after(by_tpe, 16)
    assert after(by_prior, 40) > after(by_tpe, 28)


def test_a_wrong_prior_is_left_to_tpe_after_a_few_trials() -> None:
    published = point_at(PUBLISHED["far off"])
    for seed in range(3):
        study = study_of(built := prior_sampler(published, seed))
        rng = np.random.default_rng(seed)
        study.enqueue_trial(published)
        for _ in range(12):
            asked = propose(study, BELL)
            reported = objective(asked.params) + NOISE * rng.standard_normal()
            asked.report(reported, 1)
            study.tell(asked, reported)
        assert built.shares(best_first(study.trials, [1]))[0] > 0.75
