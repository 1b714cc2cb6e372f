"""When a search ends by itself: trials that gain nothing, and Optuna's terminators."""

import math
import tempfile
from pathlib import Path
from typing import Any

import optuna
import pytest

from cpsc.errors import ConfigError
from tests.support.events import made
from tuning.launch import Journal, LaunchHistory, replay_events
from tuning.launch.events import AttemptStart, Epoch, LaunchStart, Proposed, TrialEnd, TrialStart
from tuning.outcome import Outcome, trials_since_gain
from tuning.search.budget import budget_of
from tuning.search.optuna_search import StudySearch, build_search, has_work
from tuning.search.terminators import StudyTerminator
from tuning.study.config import StopConfig, resolve_study

Raw = dict[str, Any]
METRIC = "best_probe_agreement"


def test_trials_since_the_gain_are_those_proposed_after_the_leader_that_have_ended() -> None:
    values = {0: 0.5, 1: 0.7, 2: 0.6, 3: 0.65, 4: 0.1}
    assert trials_since_gain(values, {0, 1, 2, 3}) == 2
    assert trials_since_gain(values, {0, 2, 4}) == 2
    assert trials_since_gain({**values, 4: 0.71}, {0, 1, 2, 3, 4}) == 0


def test_of_equal_trials_the_earlier_one_leads_and_a_small_gain_is_none() -> None:
    assert trials_since_gain({0: 0.7, 1: 0.7, 2: 0.7}, {0, 1, 2}) == 2
    assert trials_since_gain({0: 0.7, 1: 0.702, 2: 0.701}, {0, 1, 2}, min_gain=0.003) == 2
    assert trials_since_gain({0: 0.7, 1: 0.702, 2: 0.701}, {0, 1, 2}) == 1


def test_before_any_result_nothing_has_ceased_to_gain() -> None:
    assert trials_since_gain({}, {0, 1}) == 0


def result(value: float, epoch: int) -> dict[str, Any]:
    return {METRIC: value, "epoch": epoch, "training_iteration": epoch, "diverged": False}


def search_of(raw: Raw, **search: Any) -> StudySearch:
    study = resolve_study(raw | {"search": search})
    return build_search(study, LaunchHistory(), Journal(Path(tempfile.mkdtemp())), study.start)


def run(search: StudySearch, name: str, value: float) -> Any:
    config = search.suggest(name)
    if isinstance(config, dict):
        search.on_trial_complete(name, result(value, 9))
    return config


def test_the_search_ends_after_so_many_trials_without_gain_and_says_so(raw: Raw) -> None:
    search = search_of(raw, num_trials=20, stop={"trials_without_gain": 3})
    for number, value in enumerate((0.3, 0.6, 0.5, 0.4, 0.6)):
        assert isinstance(run(search, str(number), value), dict)
    assert search.suggest("5") == StudySearch.FINISHED
    assert search.ended_early == "the last 3 trials were no better than the best before them"


def test_a_search_that_uses_up_its_trials_has_not_ended_early(raw: Raw) -> None:
    search = search_of(raw, num_trials=2, stop={"trials_without_gain": 1})
    run(search, "0", 0.6), run(search, "1", 0.5)
    assert search.suggest("2") == StudySearch.FINISHED
    assert not search.ended_early


def test_a_trial_that_failed_counts_as_one_without_gain(raw: Raw) -> None:
    search = search_of(raw, num_trials=20, stop={"trials_without_gain": 1})
    run(search, "0", 0.6)
    search.suggest("1")
    search.on_trial_complete("1", error=True)
    assert search.suggest("2") == StudySearch.FINISHED


def events(values: dict[int, float]) -> list[Any]:
    told: list[Any] = [made(LaunchStart), made(AttemptStart)]
    for number, value in values.items():
        told += [
            made(Proposed, number=number),
            made(TrialStart, number=number),
            made(Epoch, number=number, epoch=1, metrics={METRIC: value}),
            made(TrialEnd, number=number, outcome=Outcome.PRUNED, epoch=1),
        ]
    return told


def test_a_resumed_search_counts_as_an_uninterrupted_one(raw: Raw) -> None:
    study = resolve_study(raw | {"search": {"num_trials": 20, "stop": {"trials_without_gain": 3}}})
    history = replay_events(events({0: 0.2, 1: 0.6, 2: 0.5, 3: 0.4}), metric=METRIC)
    assert budget_of(study, history).trials_since_gain == 2
    assert has_work(study, history)
    assert not has_work(study, replay_events(events({0: 0.2, 1: 0.6, 2: 0.5, 3: 0.4, 4: 0.1}), metric=METRIC))


def bowl(num_trials: int) -> optuna.Study:
    """A study of an easy objective, whose best is soon found."""
    study = optuna.create_study(direction="maximize", sampler=optuna.samplers.TPESampler(seed=0))
    study.optimize(lambda trial: math.exp(-(trial.suggest_float("x", -1, 1) ** 2)), n_trials=num_trials)
    return study


def test_the_regrets_bound_ends_a_search_whose_rest_is_not_worth_it_and_no_other() -> None:
    study = bowl(30)
    assert StudyTerminator(StopConfig(terminator="regret_bound", min_gain=0.5), seed=0).ends(study)
    assert not StudyTerminator(StopConfig(terminator="regret_bound", min_gain=1e-9), seed=0).ends(study)


def test_a_terminator_is_not_asked_before_enough_trials_have_run_to_their_end() -> None:
    assert not StudyTerminator(StopConfig(terminator="regret_bound", min_gain=0.5, min_trials=31), seed=0).ends(bowl(30))


def test_the_minimum_regret_ends_a_search_that_has_settled_but_not_before_thirty_trials() -> None:
    assert not StudyTerminator(StopConfig(terminator="emmr"), seed=0).ends(bowl(29))
    assert StudyTerminator(StopConfig(terminator="emmr"), seed=0).ends(bowl(60))


def test_the_search_asks_the_terminator(raw: Raw) -> None:
    search = search_of(raw, num_trials=99, sampler="random", stop={"terminator": "regret_bound", "min_gain": 1.0, "min_trials": 4})
    for number in range(4):
        assert isinstance(run(search, str(number), 0.5 + number / 100), dict)
    assert search.suggest("4") == StudySearch.FINISHED
    assert search.ended_early == "Optuna's terminator sees nothing left to gain"


def test_a_bound_on_the_regret_needs_the_gain_that_is_not_worth_it(raw: Raw) -> None:
    with pytest.raises(ConfigError, match=r"search.stop.terminator: regret_bound needs search.stop.min_gain"):
        resolve_study(raw | {"search": {"stop": {"terminator": "regret_bound"}}})
