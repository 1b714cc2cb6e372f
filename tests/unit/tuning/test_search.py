"""What Optuna hears of a trial's end, whose points come first, and when ASHA stops a trial."""

from pathlib import Path
from typing import Any

import optuna
import pytest
from optuna.trial import FrozenTrial, TrialState
from ray.tune.experiment import Trial
from ray.tune.schedulers import FIFOScheduler, TrialScheduler

from tuning.config import resolve_study
from tuning.search import StudySearch, build_scheduler, build_search

Raw = dict[str, Any]
Result = dict[str, Any]


def result(value: float, epoch: int, *, diverged: bool = False) -> Result:
    return {"best_probe_agreement": value, "training_iteration": epoch, "diverged": diverged}


@pytest.fixture
def search(raw: Raw) -> StudySearch:
    return build_search(resolve_study(raw))


def told(search: StudySearch, number: int = 0) -> FrozenTrial:
    return search._ot_study.trials[number]


def run(search: StudySearch, trial_id: str, *results: Result) -> None:
    """A trial from its suggestion to its last result, as Tune reports it: the last one only on completion."""
    search.suggest(trial_id)
    for passed in results[:-1]:
        search.on_trial_result(trial_id, passed)
    search.on_trial_complete(trial_id, results[-1])


def test_a_trial_stopped_early_is_pruned_with_the_value_it_was_stopped_on(search: StudySearch) -> None:
    run(search, "a", result(0.2, 1), result(0.3, 2), result(0.4, 3))
    assert told(search).state is TrialState.PRUNED
    assert told(search).intermediate_values == {1: 0.2, 2: 0.3, 3: 0.4}


def test_a_trial_stopped_at_its_first_epoch_is_pruned_too(search: StudySearch) -> None:
    run(search, "a", result(0.2, 1))
    assert told(search).state is TrialState.PRUNED
    assert told(search).intermediate_values == {1: 0.2}


def test_a_trial_that_ran_to_its_end_is_complete_with_its_value(search: StudySearch) -> None:
    run(search, "a", result(0.2, 1), result(0.7, 9))
    assert told(search).state is TrialState.COMPLETE
    assert told(search).value == 0.7
    assert told(search).intermediate_values == {1: 0.2, 9: 0.7}


def test_a_diverged_trial_is_complete_with_the_worst_value_for_the_sampler_to_learn_from(search: StudySearch) -> None:
    run(search, "a", result(0.5, 1), result(0.0, 2, diverged=True))
    assert told(search).state is TrialState.COMPLETE
    assert told(search).value == 0.0


def test_a_failed_trial_is_failed(search: StudySearch) -> None:
    search.suggest("a")
    search.on_trial_result("a", result(0.5, 1))
    search.on_trial_complete("a", error=True)
    assert told(search).state is TrialState.FAIL


def test_the_best_trial_of_the_study_is_a_complete_one(search: StudySearch) -> None:
    run(search, "pruned", result(0.9, 1))
    run(search, "complete", result(0.6, 9))
    run(search, "diverged", result(0.0, 1, diverged=True))
    assert search._ot_study.best_trial.number == 1


def test_a_second_completion_changes_nothing(search: StudySearch) -> None:
    run(search, "a", result(0.4, 3))
    search.on_trial_complete("a", result(0.9, 9))
    assert told(search).state is TrialState.PRUNED
    assert told(search).intermediate_values == {3: 0.4}


def test_starting_points_come_first_and_in_order(raw: Raw) -> None:
    study = resolve_study(raw | {"start": [{"weights.contrast": 1.0}, {}, {"student.lr": 0.02}]})
    search = build_search(study)
    assert [search.suggest(str(number)) for number in range(3)] == study.start
    assert search.suggest("3") not in study.start


def test_every_suggestion_lies_inside_the_space(raw: Raw) -> None:
    study = resolve_study(raw)
    search = build_search(study)
    for number in range(25):
        point = search.suggest(str(number))
        assert point is not None
        assert point.keys() == study.space.keys()
        assert all(study.space[path].contains(value) for path, value in point.items()), point
        search.on_trial_complete(str(number), result(point["student.lr"], 9))


def suggestions(search: StudySearch, count: int = 8) -> list[dict[str, Any]]:
    points = []
    for number in range(count):
        point = search.suggest(str(number))
        assert point is not None
        points.append(point)
        search.on_trial_complete(str(number), result(point["student.lr"], 9 if number % 2 else 3))
    return points


@pytest.mark.parametrize("sampler", ["tpe", "random"])
def test_the_seed_decides_the_suggestions(raw: Raw, sampler: str) -> None:
    def search(seed: int) -> StudySearch:
        return build_search(resolve_study(raw | {"search": {"sampler": sampler, "seed": seed, "startup_trials": 3}}))

    assert suggestions(search(0)) == suggestions(search(0))
    assert suggestions(search(0)) != suggestions(search(1))


def test_the_sampler_is_the_one_that_the_study_names(raw: Raw) -> None:
    samplers = {"tpe": optuna.samplers.TPESampler, "random": optuna.samplers.RandomSampler}
    for name, kind in samplers.items():
        assert isinstance(build_search(resolve_study(raw | {"search": {"sampler": name}}))._ot_study.sampler, kind)


def test_a_saved_search_continues_where_it_stopped(raw: Raw, tmp_path: Path) -> None:
    study = resolve_study(raw | {"start": [{}], "search": {"startup_trials": 2}})
    search = build_search(study)
    run(search, "a", result(0.2, 1), result(0.4, 3))
    run(search, "b", result(0.6, 9))
    search.suggest("running")
    search.save(str(tmp_path / "search.pkl"))
    restored = build_search(study)
    restored.restore(str(tmp_path / "search.pkl"))
    assert [trial.state for trial in restored._ot_study.trials] == [TrialState.PRUNED, TrialState.COMPLETE, TrialState.RUNNING]
    assert told(restored).intermediate_values == {1: 0.2, 3: 0.4}
    restored.on_trial_complete("running", result(0.8, 9))
    assert told(restored, 2).value == 0.8
    following = restored.suggest("c")
    assert following not in study.start
    search.on_trial_complete("running", result(0.8, 9))
    assert following == search.suggest("c")


def decisions(scheduler: TrialScheduler, values: list[float], epoch: int) -> list[str]:
    """What the scheduler says to trials that reach `epoch` one after the other."""
    answers = []
    for value in values:
        trial = Trial("distill", stub=True)
        scheduler.on_trial_add(None, trial)
        answers.append(scheduler.on_trial_result(None, trial, result(value, epoch)))
    return answers


CONTINUE, STOP = TrialScheduler.CONTINUE, TrialScheduler.STOP


def test_asha_stops_the_worse_at_a_rung_and_lets_the_best_go_on(raw: Raw) -> None:
    assert decisions(build_scheduler(resolve_study(raw)), [0.5, 0.9, 0.1, 0.95], epoch=1) == [CONTINUE, CONTINUE, STOP, CONTINUE]


def test_asha_stops_nobody_before_the_grace_is_over(raw: Raw) -> None:
    study = resolve_study(raw | {"prune": {"grace_epochs": 3}})
    assert decisions(build_scheduler(study), [0.9, 0.1, 0.05], epoch=2) == [CONTINUE] * 3
    assert decisions(build_scheduler(study), [0.9, 0.1, 0.05], epoch=3) == [CONTINUE, STOP, STOP]


@pytest.mark.parametrize(("factor", "rungs"), [(3, [1, 3]), (2, [1, 2, 4, 8])])
def test_asha_looks_at_the_rungs_of_its_reduction_factor(raw: Raw, factor: float, rungs: list[int]) -> None:
    study = resolve_study(raw | {"prune": {"reduction_factor": factor}})
    stopping = []
    for epoch in range(1, 9):
        scheduler = build_scheduler(study)
        good, bad = Trial("distill", stub=True), Trial("distill", stub=True)
        for trial in (good, bad):
            scheduler.on_trial_add(None, trial)
        for passed in range(1, epoch + 1):  # equal until the epoch in question
            value = 0.5
            scheduler.on_trial_result(None, good, result(value + (passed == epoch) * 0.4, passed))
            if scheduler.on_trial_result(None, bad, result(value, passed)) == STOP:
                stopping.append(passed)
    assert stopping == rungs


def test_a_trial_that_has_reached_its_last_epoch_is_stopped(raw: Raw) -> None:
    assert decisions(build_scheduler(resolve_study(raw)), [0.9], epoch=9) == [STOP]


def test_without_a_scheduler_every_trial_goes_on(raw: Raw) -> None:
    scheduler = build_scheduler(resolve_study(raw | {"prune": {"scheduler": "none"}}))
    assert isinstance(scheduler, FIFOScheduler)
    assert decisions(scheduler, [0.9, 0.1, 0.0], epoch=1) == [CONTINUE] * 3
