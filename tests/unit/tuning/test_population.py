"""Who takes over whom in a population, and with which values: a function of ranking, points, epoch and seed."""

from typing import Any

import pytest

from cpsc.errors import ConfigError
from tests.support.events import made
from tuning.launch import LaunchHistory, TrialHistory
from tuning.launch.events import Compared
from tuning.lineage import Exploit, Segment, Stretch, lineage_words, schedule_of, stretches
from tuning.search.population import PopulationRules, due_exploits, exploits, ranking
from tuning.search.population_search import check_population_goes_on
from tuning.study import Study
from tuning.study.base_config import parameter_paths
from tuning.study.config import resolve_study
from tuning.study.population import is_changeable

Raw = dict[str, Any]
RATE, WEIGHT, LISTED = "student.lr", "weights.contrast", "contrast_temperature"
SPACE = {RATE: {"loguniform": [0.01, 0.3]}, WEIGHT: {"quniform": [0.5, 5.0, 0.5]}, LISTED: {"choice": [0.05, 0.1, 0.5]}}
POINT = {RATE: 0.1, WEIGHT: 2.0, LISTED: 0.1}


def study_of(raw: Raw, *, num_trials: int = 8, **prune: Any) -> Study:
    return resolve_study(raw | {"space": SPACE, "search": {"num_trials": num_trials}, "prune": {"scheduler": "pbt"} | prune})


def rules_of(raw: Raw, **changes: Any) -> PopulationRules:
    rules = PopulationRules.of(study_of(raw, **changes))
    assert rules is not None
    return rules


@pytest.mark.parametrize(("size", "quantile", "count"), [(8, 0.25, 2), (5, 0.25, 2), (3, 0.5, 1), (2, 0.01, 1), (1, 0.5, 0)])
def test_a_quantile_of_the_worst_takes_over_as_many_of_the_best(raw: Raw, size: int, quantile: float, count: int) -> None:
    rules = rules_of(raw, quantile=quantile)
    ranked = list(range(size, 0, -1))
    found = exploits(ranked, dict.fromkeys(ranked, POINT), 3, rules)
    assert list(found) == ranked[size - count :]
    assert {exploit.donor for exploit in found.values()} <= set(ranked[:count])


def test_of_equal_scores_the_earlier_trial_stands_first() -> None:
    assert ranking({3: 0.5, 1: 0.5, 2: 0.9, 0: 0.1}) == [2, 1, 3, 0]


def test_who_asks_and_when_changes_nothing_and_seed_epoch_and_trial_do(raw: Raw) -> None:
    rules, points = rules_of(raw), dict.fromkeys(range(8), POINT)
    found = exploits(list(range(8)), points, 3, rules)
    assert found == exploits(list(range(8)), points, 3, rules_of(raw))
    others = [exploits(list(range(8)), points, 4, rules)[7], found[6]]
    assert all(other.point != found[7].point for other in others)


@pytest.mark.parametrize("resample", [0.0, 1.0])
def test_values_move_by_a_factor_or_to_the_next_of_a_choice_or_are_drawn_anew_and_stay_in_their_ranges(
    raw: Raw, resample: float
) -> None:
    rules = rules_of(raw, resample=resample, factors=[0.5, 4.0])
    seen: dict[str, set[Any]] = {path: set() for path in SPACE}
    for epoch in range(1, 60):
        (exploit,) = exploits([0, 1], {0: POINT, 1: POINT}, epoch, rules).values()
        for path, value in exploit.point.items():
            assert rules.space[path].contains(value)
            seen[path].add(round(value, 9))
    if resample:
        assert len(seen[RATE]) > 50
        assert len(seen[WEIGHT]) > 5
    else:
        assert seen == {RATE: {0.05, 0.3}, WEIGHT: {1.0, 5.0}, LISTED: {0.05, 0.5}}


def test_what_a_killed_driver_has_not_written_is_due_and_nothing_else(raw: Raw) -> None:
    rules = rules_of(raw)
    trials = {number: TrialHistory(number, POINT, schedule=(Segment(0, POINT),)) for number in range(8)}
    history = LaunchHistory(trials=trials)
    assert due_exploits(history, rules) == {}
    history.compared = made(Compared, epoch=3, ranking=list(range(8)))
    whole = due_exploits(history, rules)
    assert list(whole) == [6, 7]
    trials[6].exploited_after = 3
    assert due_exploits(history, rules) == {7: whole[7]}


def test_a_population_waits_at_each_comparison_and_ends_behind_the_last(raw: Raw) -> None:
    rules = rules_of(raw, interval=4)
    assert [rules.next_stop(epoch) for epoch in (0, 3, 4, 7, 8)] == [4, 4, 8, 8, 9]
    assert rules.num_segments == 3
    trial, history = TrialHistory(0, POINT, values=dict.fromkeys(range(1, 5), 0.5)), LaunchHistory()
    assert rules.waits(trial, history)
    history.compared = made(Compared, epoch=4, ranking=[0])
    assert not rules.waits(trial, history)
    assert rules_of(raw).prune.comparisons(9) == range(1, 9)


def test_loss_weights_temperatures_and_rates_can_change_and_nothing_else() -> None:
    changeable = {path for path in parameter_paths() if is_changeable(path) and not path.startswith("weights.")}
    assert changeable >= {"student.lr", "generator.lr", "distillation_temperature", "contrast_temperature", "replay.lr"}
    assert not changeable & {"student.arch", "generator.latent_dim", "seed", "schedule.batch_size", "student.warmup_epochs"}
    assert all(is_changeable(path) for path in parameter_paths() if path.startswith("weights."))


def test_a_lineage_goes_back_through_what_each_donor_had_taken_over_before() -> None:
    points = {number: {"p": number} for number in range(3)}
    taken = {0: [Exploit(3, 1, {"p": 10})], 2: [Exploit(3, 0, {"p": 11}), Exploit(6, 0, {"p": 20})]}
    lineage = stretches(2, until=9, points=points, exploits=taken)
    assert lineage == [Stretch(1, 0, 3, {"p": 1}), Stretch(0, 3, 6, {"p": 10}), Stretch(2, 6, 9, {"p": 20})]
    assert schedule_of(lineage) == ((0, {"p": 1}), (3, {"p": 10}), (6, {"p": 20}))
    assert stretches(1, until=9, points=points, exploits=taken) == [Stretch(1, 0, 9, {"p": 1})]
    assert lineage_words(lineage[:2]) == "trial 1 in epochs 1 to 3, trial 0 in epochs 4 to 6"


def test_a_launch_stays_what_it_was_and_a_compared_population_keeps_its_size(raw: Raw) -> None:
    trials = {number: TrialHistory(number, POINT) for number in range(8)}
    history = LaunchHistory(trials=trials, scheduler="asha")
    with pytest.raises(ConfigError, match=r"^prune\.scheduler: the launch has begun with asha; keep it as it was$"):
        check_population_goes_on(study_of(raw), history)
    history.scheduler = "pbt"
    check_population_goes_on(study_of(raw, num_trials=9), history)
    history.compared = made(Compared, epoch=3, ranking=list(range(8)))
    check_population_goes_on(study_of(raw), history)
    with pytest.raises(
        ConfigError, match=r"^search\.num_trials: the population of 8 has been compared and must keep its size, got 9$"
    ):
        check_population_goes_on(study_of(raw, num_trials=9), history)
