"""What Optuna hears of a trial's end, whose points come first, what a resumed search remembers, when ASHA stops a trial."""

import math
import tempfile
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import optuna
import pytest
from optuna.trial import FrozenTrial, TrialState
from ray.tune.experiment import Trial
from ray.tune.schedulers import AsyncHyperBandScheduler, FIFOScheduler, TrialScheduler

from tuning.launch import Journal, LaunchHistory, TrialHistory, replay_events
from tuning.outcome import Outcome
from tuning.search.asha import ResumableAsha, build_scheduler, rungs_of
from tuning.search.optuna_search import StudySearch, build_search
from tuning.search.prior_sampler import PriorSampler
from tuning.study import Study
from tuning.study.config import PruneConfig, resolve_study

Raw = dict[str, Any]
Result = dict[str, Any]


def result(value: float, epoch: int, *, diverged: bool = False) -> Result:
    return {"best_probe_agreement": value, "epoch": epoch, "training_iteration": epoch, "diverged": diverged}


def new_search(study: Study, history: LaunchHistory | None = None) -> StudySearch:
    return build_search(study, history or LaunchHistory(), Journal(Path(tempfile.mkdtemp())), study.start)


@pytest.fixture
def search(raw: Raw) -> StudySearch:
    return new_search(resolve_study(raw))


def told(search: StudySearch, number: int = 0) -> FrozenTrial:
    return search.study.trials[number]


def propose(search: StudySearch, trial_id: str) -> dict[str, Any]:
    config = search.suggest(trial_id)
    assert isinstance(config, dict)
    return config


def run(search: StudySearch, trial_id: str, *results: Result) -> None:
    """A trial from its suggestion to its last result, as Tune reports it: the last one only on completion."""
    propose(search, trial_id)
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
    assert search.study.best_trial.number == 1


def test_a_second_completion_changes_nothing(search: StudySearch) -> None:
    run(search, "a", result(0.4, 3))
    search.on_trial_complete("a", result(0.9, 9))
    assert told(search).state is TrialState.PRUNED
    assert told(search).intermediate_values == {3: 0.4}


def test_epochs_that_a_retried_trial_repeats_are_heard_once(search: StudySearch) -> None:
    propose(search, "a")
    for passed in (result(0.2, 1), result(0.3, 2), result(0.3, 2), result(0.4, 3)):
        search.on_trial_result("a", passed)
    search.on_trial_complete("a", result(0.5, 9))
    assert told(search).intermediate_values == {1: 0.2, 2: 0.3, 3: 0.4, 9: 0.5}


def test_epochs_that_a_retried_trial_repeats_are_not_taken_from_the_budget(raw: Raw) -> None:
    search = new_search(resolve_study(raw | {"search": {"epoch_budget": 3}}))
    propose(search, "a")
    for epoch in (1, 2, 1, 2):
        search.on_trial_result("a", result(0.2, epoch))
    assert isinstance(search.suggest("b"), dict)
    search.on_trial_result("a", result(0.2, 3))
    assert search.suggest("c") == StudySearch.FINISHED


def test_starting_points_come_first_and_in_order_then_the_samplers(raw: Raw) -> None:
    study = resolve_study(raw | {"start": [{"weights.contrast": 1.0}, {}, {"student.lr": 0.02}]})
    search = new_search(study)
    configs = [propose(search, str(number)) for number in range(4)]
    assert [config["point"] for config in configs[:3]] == study.start
    assert configs[3]["point"] not in study.start
    assert [config["number"] for config in configs] == [0, 1, 2, 3]
    assert all(config["restore"] == [] for config in configs)


def test_every_suggestion_lies_inside_the_space(raw: Raw) -> None:
    study = resolve_study(raw | {"search": {"num_trials": 25, "startup_trials": 10}})
    search = new_search(study)
    for number in range(25):
        point = propose(search, str(number))["point"]
        assert point.keys() == study.space.keys()
        assert all(study.space[path].contains(value) for path, value in point.items()), point
        search.on_trial_complete(str(number), result(point["student.lr"], 9))


def suggestions(search: StudySearch, count: int = 8) -> list[dict[str, Any]]:
    points = []
    for number in range(count):
        points.append(propose(search, str(number))["point"])
        search.on_trial_complete(str(number), result(points[-1]["student.lr"], 9 if number % 2 else 3))
    return points


@pytest.mark.parametrize("sampler", ["tpe", "gp", "prior", "random"])
def test_the_seed_decides_the_suggestions(raw: Raw, sampler: str) -> None:
    def search(seed: int) -> StudySearch:
        return new_search(resolve_study(raw | {"search": {"sampler": sampler, "seed": seed, "startup_trials": 3}}))

    assert suggestions(search(0)) == suggestions(search(0))
    assert suggestions(search(0)) != suggestions(search(1))


def test_the_sampler_is_the_one_that_the_study_names(raw: Raw) -> None:
    samplers = {
        "tpe": optuna.samplers.TPESampler,
        "gp": optuna.samplers.GPSampler,
        "prior": PriorSampler,
        "random": optuna.samplers.RandomSampler,
    }
    for name, kind in samplers.items():
        assert isinstance(new_search(resolve_study(raw | {"search": {"sampler": name}})).study.sampler, kind)


@pytest.mark.parametrize(
    ("budget", "proposed"), [({"num_trials": 3}, 3), ({"num_trials": 9, "epoch_budget": 4}, 2), ({"time_budget_s": 1e-9}, 0)]
)
def test_a_spent_budget_ends_the_proposals(raw: Raw, budget: Raw, proposed: int) -> None:
    search = new_search(resolve_study(raw | {"search": budget}))
    count = 0
    while isinstance(search.suggest(str(count)), dict):
        search.on_trial_result(str(count), result(0.2, 1))
        search.on_trial_complete(str(count), result(0.3, 2))
        count += 1
    assert count == proposed
    assert search.suggest("late") == StudySearch.FINISHED


POINT = {"weights.contrast": 1.0, "student.lr": 0.1, "schedule.student_steps": 2, "cpsc.contrast": "two_view"}


def past(number: int, values: dict[int, float], outcome: Outcome | None, checkpoints: list[str] | None = None) -> TrialHistory:
    point = POINT | {"student.lr": 0.1 + 0.01 * number}
    return TrialHistory(number, point, values=values, checkpoints=checkpoints or [], outcome=outcome)


def history_of(*trials: TrialHistory) -> LaunchHistory:
    results = [(trial.number, epoch, value) for trial in trials for epoch, value in trial.values.items()]
    return LaunchHistory(trials={trial.number: trial for trial in trials}, results=results, num_attempts=1)


def test_a_resumed_search_knows_how_each_trial_ended(raw: Raw) -> None:
    search = new_search(
        resolve_study(raw),
        history_of(
            past(0, {1: 0.2, 3: 0.4}, Outcome.PRUNED),
            past(1, {1: 0.3, 9: 0.7}, Outcome.COMPLETED),
            past(2, {1: 0.5}, Outcome.FAILED),
        ),
    )
    assert [trial.state for trial in search.study.trials] == [TrialState.PRUNED, TrialState.COMPLETE, TrialState.FAIL]
    assert told(search, 0).intermediate_values == {1: 0.2, 3: 0.4}
    assert told(search, 1).value == 0.7
    assert told(search, 1).params == past(1, {}, None).point


@pytest.mark.parametrize("values", [{1: 0.5, 2: 0.0}, {1: 0.0}], ids=["in its second epoch", "in its first epoch"])
def test_a_resumed_search_knows_a_diverged_trial_by_the_worst_value(raw: Raw, values: dict[int, float]) -> None:
    search = new_search(resolve_study(raw), history_of(past(0, values, Outcome.DIVERGED)))
    assert told(search).state is TrialState.COMPLETE
    assert told(search).value == 0.0


def test_a_resumed_search_asks_for_unfinished_trials_first_under_their_numbers_with_their_latest_checkpoints(raw: Raw) -> None:
    study = resolve_study(raw | {"start": [{}] * 4})
    unfinished = [past(1, {1: 0.2, 2: 0.3}, None, ["a", "b", "c"]), past(3, {}, Outcome.INTERRUPTED)]
    done = [past(0, {9: 0.7}, Outcome.COMPLETED), past(2, {1: 0.1}, Outcome.PRUNED)]
    search = new_search(study, history_of(*unfinished, *done))
    first, second, third = (propose(search, trial_id) for trial_id in "abc")
    assert first == {"number": 1, "point": unfinished[0].point, "restore": ["c", "b"], "finalist_of": None}
    assert second == {"number": 3, "point": unfinished[1].point, "restore": [], "finalist_of": None}
    assert third["number"] == 4
    assert third["point"] not in study.start, "all four starting points were proposed before"


def test_starting_points_that_were_not_reached_follow_after_a_resume(raw: Raw) -> None:
    study = resolve_study(raw | {"start": [{"student.lr": 0.1}, {"student.lr": 0.2}]})
    search = new_search(study, history_of(past(0, {9: 0.7}, Outcome.COMPLETED)))
    assert propose(search, "a")["point"] == study.start[1]


def test_a_continued_trial_keeps_what_it_has_reported_and_repeats_none_of_it(raw: Raw) -> None:
    search = new_search(resolve_study(raw), history_of(past(0, {1: 0.2, 2: 0.3}, None)))
    propose(search, "a")
    search.on_trial_result("a", result(0.3, 2))
    search.on_trial_complete("a", result(0.8, 9))
    assert told(search).intermediate_values == {1: 0.2, 2: 0.3, 9: 0.8}
    assert told(search).value == 0.8


def test_a_resumed_search_counts_the_past_in_its_budgets(raw: Raw) -> None:
    trials = [past(number, {1: 0.5}, Outcome.PRUNED) for number in range(3)]
    assert new_search(resolve_study(raw | {"search": {"num_trials": 3}}), history_of(*trials)).suggest("a") == StudySearch.FINISHED
    study = resolve_study(raw | {"search": {"epoch_budget": 3}})
    assert new_search(study, history_of(*trials)).suggest("a") == StudySearch.FINISHED
    assert isinstance(new_search(study, history_of(*trials[:2])).suggest("a"), dict)


def test_an_unfinished_trial_is_continued_though_the_budget_is_spent(raw: Raw) -> None:
    study = resolve_study(raw | {"search": {"epoch_budget": 1}})
    search = new_search(study, history_of(past(0, {1: 0.5, 2: 0.5}, None)))
    assert propose(search, "a")["number"] == 0
    assert search.suggest("b") == StudySearch.FINISHED


def test_a_resumed_search_does_not_draw_the_points_of_the_attempt_before_again(raw: Raw) -> None:
    study = resolve_study(raw | {"search": {"sampler": "random"}})
    search = new_search(study)
    first, second = (propose(search, name)["point"] for name in "ab")
    resumed = new_search(study, history_of(past(0, {1: 0.5}, Outcome.PRUNED)))
    assert propose(resumed, "b")["point"] not in (first, second)
    assert propose(new_search(study, LaunchHistory(num_attempts=1)), "a")["point"] == first, "nothing was drawn before"


def new_trial(number: int) -> Trial:
    return Trial("distill", config={"number": number}, stub=True)  # Ray's own way to a trial whose trainable nobody registered


def decisions(scheduler: TrialScheduler, values: list[float], epoch: int) -> list[str]:
    """What the scheduler says to trials that reach `epoch` one after the other."""
    answers = []
    for number, value in enumerate(values):
        trial = new_trial(number)
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


def stopped_after(prune: PruneConfig, epochs: int) -> list[int]:
    """The epochs after which Ray's own scheduler says to stop a trial that is always worse than another."""
    scheduler = AsyncHyperBandScheduler(
        time_attr="epoch",
        metric="value",
        mode="max",
        max_t=epochs,
        grace_period=prune.grace_epochs,
        reduction_factor=prune.reduction_factor,
    )
    good, bad = SimpleNamespace(trial_id="good"), SimpleNamespace(trial_id="bad")
    for trial in (good, bad):
        scheduler.on_trial_add(None, trial)
    found = []
    for epoch in range(1, epochs):
        scheduler.on_trial_result(None, good, {"epoch": epoch, "value": 0.9})
        if scheduler.on_trial_result(None, bad, {"epoch": epoch, "value": 0.1}) == STOP:
            found.append(epoch)
    return found


@pytest.mark.parametrize("factor", [1.1, 1.2, 1.5, math.sqrt(2), 2, 2.5, math.e, 2.9, 3, 4, 10, 999.5])
@pytest.mark.parametrize(("grace", "epochs"), [(1, 1), (1, 2), (1, 27), (1, 40), (2, 33), (3, 10), (7, 30), (10, 10), (39, 40)])
def test_the_rungs_are_those_at_which_rays_own_scheduler_stops_trials(factor: float, grace: int, epochs: int) -> None:
    prune = PruneConfig(reduction_factor=factor, grace_epochs=grace)
    assert rungs_of(prune, epochs) == stopped_after(prune, epochs)


@pytest.mark.parametrize(
    ("factor", "epochs", "rungs"),
    [(2.5, 30, [1, 3, 7, 16]), (3, 9, [1, 3]), (2, 9, [1, 2, 4, 8]), (10, 1000, [1, 10, 100]), (3, 243, [1, 3, 9, 27, 81])],
)
def test_rungs_by_name(factor: float, epochs: int, rungs: list[int]) -> None:
    assert rungs_of(PruneConfig(reduction_factor=factor), epochs) == rungs


def test_without_a_scheduler_there_are_no_rungs() -> None:
    assert rungs_of(PruneConfig(scheduler="none"), 9) == []


def test_a_trial_that_has_reached_its_last_epoch_is_stopped(raw: Raw) -> None:
    assert decisions(build_scheduler(resolve_study(raw)), [0.9], epoch=9) == [STOP]


def test_without_a_scheduler_every_trial_goes_on(raw: Raw) -> None:
    scheduler = build_scheduler(resolve_study(raw | {"prune": {"scheduler": "none"}}))
    assert isinstance(scheduler, FIFOScheduler)
    assert decisions(scheduler, [0.9, 0.1, 0.0], epoch=1) == [CONTINUE] * 3


def test_replayed_rungs_decide_as_those_that_were_lost(raw: Raw) -> None:
    study = resolve_study(raw)
    values = [0.5, 0.9, 0.1, 0.95]
    lived = build_scheduler(study)
    answers = decisions(lived, values, epoch=1)
    history = history_of(*(past(number, {1: value}, None) for number, value in enumerate(values)))
    replayed = build_scheduler(study)
    assert isinstance(replayed, ResumableAsha)
    assert replayed.restore_rungs(history) == {number for number, answer in enumerate(answers) if answer == STOP}
    for value in (0.92, 0.7, 0.96):
        late = new_trial(10 + int(100 * value))
        verdicts = []
        for scheduler in (lived, replayed):
            scheduler.on_trial_add(None, late)
            verdicts.append(scheduler.on_trial_result(None, late, result(value, 1)))
        assert verdicts[0] == verdicts[1]


def test_a_trial_of_a_new_attempt_takes_the_place_of_its_number_in_the_rungs(raw: Raw) -> None:
    scheduler = build_scheduler(resolve_study(raw))
    assert isinstance(scheduler, ResumableAsha)
    scheduler.restore_rungs(history_of(past(0, {1: 0.9}, None), past(1, {1: 0.9}, None)))
    again = new_trial(0)
    scheduler.on_trial_add(None, again)
    assert scheduler.on_trial_result(None, again, result(0.1, 1)) == CONTINUE, "its first rung is behind it"
    assert scheduler.on_trial_result(None, again, result(0.95, 3)) == CONTINUE


def test_every_proposal_is_journaled_once_in_the_order_of_the_numbers(raw: Raw, tmp_path: Path) -> None:
    journal = Journal(tmp_path)
    search = build_search(resolve_study(raw), LaunchHistory(), journal, [])
    proposed = [propose(search, name) for name in "abc"]
    history = replay_events(journal.events(), metric="best_probe_agreement")
    assert [(trial.number, trial.point) for trial in history.trials.values()] == [
        (config["number"], config["point"]) for config in proposed
    ]
    again = build_search(resolve_study(raw), history, journal, [])
    assert [propose(again, name)["number"] for name in "abc"] == [0, 1, 2]
    assert len(list(journal.events())) == 3


def test_conditional_parameters_are_proposed_and_remembered_with_what_they_depend_on(raw: Raw) -> None:
    raw["space"] = {
        "method": {"choice": ["cpsc", "dafl"]},
        "weights.contrast": {"loguniform": [0.05, 5], "when": {"method": "cpsc"}},
        "weights.one_hot": {"loguniform": [0.01, 5], "when": {"method": "dafl"}},
    }
    raw["search"] = {"num_trials": 12}
    study = resolve_study(raw)
    search = new_search(study)
    points = [propose(search, str(index))["point"] for index in range(12)]
    own = {"cpsc": "weights.contrast", "dafl": "weights.one_hot"}
    assert {tuple(point) for point in points} == {("method", name) for name in own.values()}
    assert all(point.keys() == {"method", own[point["method"]]} for point in points)

    history = LaunchHistory()
    for number, point in enumerate(points[:4]):
        history.trials[number] = TrialHistory(number, point, values={1: 0.5}, outcome=Outcome.COMPLETED)
    resumed = new_search(study, history)
    assert [trial.params for trial in resumed.study.trials] == points[:4]


def test_a_grid_is_proposed_point_by_point_and_then_over(raw: Raw) -> None:
    raw["space"] = {"weights.l2": {"choice": [1.0, 5.0]}, "seed": {"choice": [0, 1]}}
    raw["search"] = {"sampler": "grid"}
    study = resolve_study(raw)
    assert study.search.num_trials == 4
    search = new_search(study)
    points = [propose(search, str(index))["point"] for index in range(4)]
    assert points == [{"weights.l2": l2, "seed": seed} for l2 in (1.0, 5.0) for seed in (0, 1)]
    assert search.suggest("more") == "FINISHED"
