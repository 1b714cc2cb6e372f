"""Finalists: which points are run again under which seeds, when they are proposed, what a resume knows of them, who is chosen."""

import math
import random
import tempfile
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import optuna
import pytest
import scipy.stats
import torch
from optuna.trial import TrialState
from ray.tune.schedulers import TrialScheduler

from cpsc.errors import ConfigError
from cpsc.marks import Marks
from tests.support.events import made
from tests.support.trials import make_context
from tuning.launch import Journal, LaunchHistory, replay_events
from tuning.launch.events import Epoch, Event, Proposed, TrialEnd, TrialStart
from tuning.launch.launch import check_resumable
from tuning.outcome import Outcome
from tuning.report.as_json import launch_figures
from tuning.report.console import summary_lines
from tuning.report.finalists import finalist_rows
from tuning.results import Launch, TrialRecord
from tuning.results.choice import finalists_of, ranked, welch
from tuning.search.asha import ResumableAsha
from tuning.search.finalists import runs_to_propose
from tuning.search.optuna_mirror import StudyMirror, mirroring
from tuning.search.optuna_search import StudySearch, build_search, has_work
from tuning.search.optuna_space import to_optuna
from tuning.study import Study
from tuning.study.config import PruneConfig, resolve_study
from tuning.sweep.dry_run import describe
from tuning.trial.environment import from_tag
from tuning.trial.placement import resources_of
from tuning.trial.resources import concurrency
from tuning.trial.trainable import local_trainable

Raw = dict[str, Any]
METRIC = "best_probe_agreement"
L2 = "weights.l2"


@pytest.fixture
def study(raw: Raw) -> Study:
    raw["space"] = {L2: {"loguniform": [0.1, 10]}}
    raw["search"] = {"num_trials": 3, "finalists": {"top": 2, "seeds": 2}}
    return resolve_study(raw)


def trial_events(number: int, point: Raw, values: Sequence[float], outcome: Outcome | None, of: int | None = None) -> list[Event]:
    """A trial from its proposal to its end; without an `outcome` it is under way."""
    events: list[Event] = [made(Proposed, number=number, point=point, finalist_of=of)]
    events.append(made(TrialStart, number=number, point=point, finalist_of=of))
    events += [made(Epoch, number=number, epoch=epoch, metrics={METRIC: value}) for epoch, value in enumerate(values, start=1)]
    if outcome is not None:
        events.append(made(TrialEnd, number=number, outcome=outcome, epoch=len(values)))
    return events


SEARCHED = [
    *trial_events(0, {L2: 1.0}, [0.5, 0.6, 0.7], Outcome.COMPLETED),
    *trial_events(1, {L2: 2.0}, [0.8], Outcome.PRUNED),
    *trial_events(2, {L2: 3.0}, [0.9, 0.0], Outcome.DIVERGED),
]


def history_of(*events: Event) -> LaunchHistory:
    return replay_events(events, metric=METRIC)


# --- which they are ---


def test_they_are_the_best_points_whatever_ended_them_under_the_seeds_after_the_studys(study: Study) -> None:
    runs = runs_to_propose(study, history_of(*SEARCHED))
    assert [(run.of, run.point) for run in runs] == [
        (1, {L2: 2.0, "seed": 1}),
        (1, {L2: 2.0, "seed": 2}),
        (0, {L2: 1.0, "seed": 1}),
        (0, {L2: 1.0, "seed": 2}),
    ]


def test_a_point_that_was_tried_twice_is_one_finalist(study: Study) -> None:
    again = trial_events(3, {L2: 2.0}, [0.75], Outcome.PRUNED)
    assert [run.of for run in runs_to_propose(study, history_of(*SEARCHED, *again))] == [1, 1, 0, 0]


def test_what_was_proposed_is_not_proposed_again(study: Study) -> None:
    ran = trial_events(3, {L2: 2.0, "seed": 1}, [0.8] * 9, Outcome.COMPLETED, of=1)
    runs = runs_to_propose(study, history_of(*SEARCHED, *ran))
    assert [(run.of, run.point["seed"]) for run in runs] == [(1, 2), (0, 1), (0, 2)]


def test_they_may_have_a_length_of_their_own(raw: Raw) -> None:
    study = resolve_study(raw | {"search": {"finalists": {"epochs": 20, "top": 1, "seeds": 1}}})
    (run,) = runs_to_propose(study, history_of(*trial_events(0, {"student.lr": 0.1}, [0.5], Outcome.PRUNED)))
    assert run.point == {"student.lr": 0.1, "seed": 1, "epochs": 20}


def test_without_a_word_of_them_there_are_none(raw: Raw) -> None:
    study = resolve_study(raw)
    assert study.search.finalists is None
    assert runs_to_propose(study, history_of(*SEARCHED)) == []


@pytest.mark.parametrize(
    ("finalists", "message"),
    [
        ({"top": 0}, r"^study\.search\.finalists\.top: "),
        ({"seeds": 0}, r"^study\.search\.finalists\.seeds: "),
        ({"best": 3}, r"^study\.search\.finalists\.best: "),
        ({"epochs": 1}, r"^search\.finalists\.epochs: config\.student\.warmup_epochs"),
    ],
)
def test_finalists_that_cannot_be_run_are_refused(raw: Raw, finalists: Raw, message: str) -> None:
    raw["config"]["student"]["warmup_epochs"] = 2
    with pytest.raises(ConfigError, match=message):
        resolve_study(raw | {"search": {"finalists": finalists}})


def test_a_grid_that_repeats_its_points_by_seed_needs_none(raw: Raw) -> None:
    space = {L2: {"choice": [1.0, 2.0]}, "seed": {"choice": [0, 1]}}
    with pytest.raises(ConfigError, match=r"search\.finalists: .* space\.seed"):
        resolve_study(raw | {"space": space, "search": {"sampler": "grid", "finalists": {}}})


def test_the_dry_run_says_what_they_cost(study: Study) -> None:
    assert "# after them 4 runs of 9 epochs: the best 2 points under 2 new seeds each, 1 CPU per run" in describe(study)


def test_a_run_may_have_more_cores_than_a_trial_of_the_search(raw: Raw, monkeypatch: pytest.MonkeyPatch) -> None:
    raw["search"] = {"num_trials": 3, "finalists": {"top": 1, "seeds": 1, "cpus": 2}}
    study = resolve_study(raw)
    assert [resources_of(study, {"finalist_of": of}).bundles for of in (None, 0)] == [[{"CPU": 1.0}], [{"CPU": 2.0}]]
    monkeypatch.setattr("tuning.trial.resources.num_processors", lambda: 1)
    with pytest.raises(ConfigError, match=r"search\.finalists\.cpus: asks for 2 per run, but this process has only 1; lower it"):
        concurrency(study)


@pytest.mark.parametrize(("finalist_of", "threads"), [(None, 1), (0, 2)])
def test_its_threads_are_as_many_as_its_cores(finalist_of: int | None, threads: int) -> None:
    before = torch.get_num_threads()
    context = replace(make_context({}), finalist_threads=2)
    trainable = local_trainable(context, {})
    try:
        trainable.setup({"number": 1, "point": {}, "finalist_of": finalist_of}, context)
        assert torch.get_num_threads() == threads
        assert from_tag(trainable.step()["environment"])["threads"] == str(threads)
    finally:
        torch.set_num_threads(before)
        trainable.stop()


# --- when they are proposed ---


class Sweep:
    """A search with the journal that a sweep writes beside it."""

    def __init__(self, study: Study, folder: Path | None = None) -> None:
        self.journal = Journal(folder or Path(tempfile.mkdtemp()))
        self.history = replay_events(self.journal.events(), metric=METRIC)
        self.search = build_search(study, self.history, self.journal, [{L2: 1.0}, {L2: 2.0}, {L2: 3.0}])

    def propose(self, trial_id: str) -> Raw:
        config = self.search.suggest(trial_id)
        assert isinstance(config, dict)
        about = {"number": config["number"], "point": config["point"], "finalist_of": config["finalist_of"]}
        self.journal.append(made(TrialStart, **about))
        return config

    def run(self, trial_id: str, value: float, epochs: int = 9) -> Raw:
        """A trial from its proposal to its end."""
        config = self.propose(trial_id)
        self.end(trial_id, config["number"], value, epochs)
        return config

    def end(self, trial_id: str, number: int, value: float, epochs: int = 9) -> None:
        for epoch in range(1, epochs + 1):
            self.journal.append(made(Epoch, number=number, epoch=epoch, metrics={METRIC: value}))
            self.search.on_trial_result(trial_id, {METRIC: value, "epoch": epoch})
        outcome = Outcome.COMPLETED if epochs == 9 else Outcome.PRUNED
        self.journal.append(made(TrialEnd, number=number, outcome=outcome, epoch=epochs))
        self.search.on_trial_complete(trial_id, {METRIC: value, "epoch": epochs, "diverged": False})


def test_they_wait_for_the_searchs_last_trial_and_then_follow_upon_its_numbers(study: Study) -> None:
    sweep = Sweep(study)
    sweep.run("a", 0.5)
    sweep.run("b", 0.6, epochs=3)
    slow = sweep.propose("c")
    assert sweep.search.suggest("waits") is None
    sweep.end("c", slow["number"], 0.7)
    configs = [sweep.run(f"finalist {place}", 0.6) for place in range(4)]
    assert [(config["number"], config["finalist_of"], config["point"]) for config in configs] == [
        (3, 2, {L2: 3.0, "seed": 1}),
        (4, 2, {L2: 3.0, "seed": 2}),
        (5, 1, {L2: 2.0, "seed": 1}),
        (6, 1, {L2: 2.0, "seed": 2}),
    ]
    assert sweep.search.suggest("more") == StudySearch.FINISHED


def test_they_teach_the_sampler_nothing_and_a_search_that_is_extended_goes_on_behind_them(study: Study, tmp_path: Path) -> None:
    sweep = Sweep(study, tmp_path)
    for place in range(7):
        sweep.run(str(place), 0.9 - 0.1 * place)
    assert {trial.state for trial in sweep.search.study.trials[3:]} == {TrialState.FAIL}
    assert not has_work(study, replay_events(sweep.journal.events(), metric=METRIC))

    longer = study.search.model_copy(update={"num_trials": 4})
    extended = Sweep(with_search(study, longer), tmp_path)
    assert [trial.state for trial in extended.search.study.trials] == [TrialState.COMPLETE] * 3 + [TrialState.FAIL] * 4
    new = extended.run("new", 0.85)
    assert (new["number"], new["finalist_of"], new["point"].keys()) == (7, None, {L2})
    assert [extended.run(place, 0.8)["point"]["seed"] for place in "ab"] == [1, 2], "only the new point's"
    assert extended.search.suggest("more") == StudySearch.FINISHED


def with_search(study: Study, search: Any) -> Study:
    return resolve_study({**study.source, "search": search.model_dump()})


def test_one_that_was_interrupted_goes_on_as_it_was(study: Study, tmp_path: Path) -> None:
    sweep = Sweep(study, tmp_path)
    for place in range(4):
        sweep.run(str(place), 0.9 - 0.1 * place)
    left = sweep.propose("left")
    resumed = Sweep(study, tmp_path)
    assert has_work(study, resumed.history)
    again = resumed.run("again", 0.5)
    assert {key: again[key] for key in ("number", "point", "finalist_of")} == {
        key: left[key] for key in ("number", "point", "finalist_of")
    }
    assert [resumed.run(place, 0.5)["number"] for place in "ab"] == [5, 6]
    assert resumed.search.suggest("more") == StudySearch.FINISHED


def test_the_budget_of_epochs_is_the_searchs_alone(study: Study) -> None:
    budget = study.search.model_copy(update={"num_trials": 9, "epoch_budget": 18})
    sweep = Sweep(with_search(study, budget))
    finalists = [sweep.run(str(place), 0.5)["finalist_of"] for place in range(6)]
    assert finalists == [None, None, 0, 0, 1, 1]
    assert replay_events(sweep.journal.events(), metric=METRIC).num_epochs == 18


def test_asha_neither_stops_them_nor_compares_others_with_them() -> None:
    prune = PruneConfig(grace_epochs=1, reduction_factor=2)
    asha = ResumableAsha(prune, epochs=9, metric=METRIC)
    best = SimpleNamespace(config={"number": 7, "finalist_of": 0})
    asha.on_trial_add(None, best)
    for epoch in (1, 9, 12):
        assert asha.on_trial_result(None, best, {"epoch": epoch, METRIC: 1.0}) == TrialScheduler.CONTINUE
    asha.on_trial_complete(None, best, {"epoch": 12, METRIC: 1.0})
    asha.on_trial_remove(None, best)
    worse = SimpleNamespace(config={"number": 8})
    asha.on_trial_add(None, worse)
    assert asha.on_trial_result(None, worse, {"epoch": 1, METRIC: 0.1}) == TrialScheduler.CONTINUE, "it is the first of its rung"


def test_rungs_that_are_restored_have_none_of_them() -> None:
    finalist = trial_events(3, {L2: 2.0, "seed": 1}, [0.99] * 9, Outcome.COMPLETED, of=1)
    prune = PruneConfig(grace_epochs=1, reduction_factor=2)
    bare, full = (ResumableAsha(prune, epochs=9, metric=METRIC) for _ in range(2))
    assert bare.restore_rungs(history_of(*SEARCHED)) == full.restore_rungs(history_of(*SEARCHED, *finalist))
    assert bare.debug_string() == full.debug_string()


# --- what the records say ---


@pytest.mark.parametrize("of", [9, 3])
def test_a_finalist_of_a_trial_that_the_search_has_not_proposed_is_refused(of: int) -> None:
    first = trial_events(3, {L2: 2.0, "seed": 1}, [0.5], None, of=1)
    with pytest.raises(ConfigError, match=rf"trial 4 is proposed as a finalist of trial {of}, which the search has not"):
        history_of(*SEARCHED, *first, made(Proposed, number=4, point={L2: 2.0, "seed": 2}, finalist_of=of))


def test_a_launch_with_finalists_can_be_resumed(study: Study) -> None:
    history = history_of(*SEARCHED, *trial_events(3, {L2: 2.0, "seed": 1, "epochs": 12}, [0.5], None, of=1))
    history.launch_id = "x"
    check_resumable(history, study.space)


def test_the_mirror_has_them_with_what_optuna_knows_of_their_point(study: Study, tmp_path: Path) -> None:
    journal = Journal(tmp_path)
    for event in [*SEARCHED, *trial_events(3, {L2: 2.0, "seed": 1}, [0.5] * 9, Outcome.COMPLETED, of=1)]:
        journal.append(event)
    mirror = StudyMirror(journal, study_name="small", space=to_optuna(study.space), metric=METRIC)
    with mirroring(mirror):
        pass
    trial = optuna.load_study(study_name="small", storage=f"sqlite:///{mirror.path}").trials[3]
    assert trial.params == {L2: 2.0}
    assert (trial.user_attrs["finalist_of"], trial.user_attrs["seed"], trial.state) == (1, 1, TrialState.COMPLETE)


# --- who is chosen ---


def record(number: int, values: Sequence[float], of: int | None = None, **about: Any) -> TrialRecord:
    point = {L2: float(number if of is None else of)} | ({} if of is None else {"seed": number})
    curves = {"probe_agreement": dict(enumerate(values, start=1)), "test_accuracy": dict(enumerate(values, start=1))}
    fields = {"outcome": Outcome.COMPLETED, "reason": "", "params": {L2: str(point[L2])}, "curves": curves, "point": point} | about
    return TrialRecord(number=number, run_id=None, finalist_of=of, **fields)


def launch(*trials: TrialRecord) -> Launch:
    return Launch(name="small", run_id=None, objective="probe_agreement", epochs=3, trials=ranked(trials, "probe_agreement"))


def flat(value: float) -> list[float]:
    return [0.0, value, value]


LUCKY, STEADY = record(0, flat(0.90)), record(1, flat(0.85))


def test_the_best_run_of_the_point_with_the_best_mean_is_chosen() -> None:
    runs = [record(number, flat(value), of=0) for number, value in ((2, 0.70), (3, 0.71), (4, 0.89))]
    others = [record(number, flat(value), of=1) for number, value in ((5, 0.86), (6, 0.87), (7, 0.85))]
    found = launch(LUCKY, STEADY, *runs, *others)
    assert found.chosen is not None
    assert found.chosen.number == 6
    assert [(finalist.of, [trial.number for trial in finalist.runs]) for finalist in found.finalists] == [
        (1, [6, 5, 7]),
        (0, [4, 3, 2]),
    ]
    assert found.regret() == pytest.approx(0.90 - 0.87)


def test_one_seed_that_diverges_counts_as_the_worst_score() -> None:
    runs = [record(2, flat(0.95), of=0), record(3, [0.9, 0.0], of=0, outcome=Outcome.DIVERGED)]
    others = [record(4, flat(0.80), of=1), record(5, flat(0.82), of=1)]
    found = finalists_of([*runs, *others], "probe_agreement")
    assert {finalist.of: finalist.mean for finalist in found} == {1: pytest.approx(0.81), 0: pytest.approx(0.475)}


def test_a_run_whose_machine_failed_is_none_and_fewer_runs_are_not_compared() -> None:
    failed = record(3, [], of=0, outcome=Outcome.FAILED)
    found = launch(LUCKY, STEADY, record(2, flat(0.95), of=0), failed, record(4, flat(0.80), of=1), record(5, flat(0.82), of=1))
    assert [finalist.of for finalist in found.finalists] == [1]
    assert found.chosen is not None
    assert found.chosen.number == 5


def test_of_those_within_the_noise_of_their_seeds_the_cheapest_student_is_chosen() -> None:
    dear, cheap = ({"student.macs": macs, "student.parameters": "1", L2: "1"} for macs in ("2e6", "1e6"))
    runs = [record(number, flat(value), of=0, params=dear) for number, value in ((2, 0.80), (3, 0.88))]
    others = [record(number, flat(value), of=1, params=cheap) for number, value in ((4, 0.79), (5, 0.87))]
    found = launch(LUCKY, STEADY, *runs, *others)
    assert found.chosen is not None
    assert found.chosen.number == 5
    assert [trial.number for trial in found.ties] == [3, 2]
    lines = "\n".join(summary_lines(found, [L2]))
    assert (
        "it has the values of trial 1, which scored 85.00 % in the search: over 2 new seeds probe agreement 83.00 % ± 5.66" in lines
    )
    assert "= within the noise of its seeds (Welch, 5 %): values of trial 0; the cheapest student is chosen" in lines
    assert [row[0] for row in finalist_rows(found)] == ["1", "0 ="]


def test_of_equally_cheap_ones_that_which_stays_high_over_its_epochs_is_chosen() -> None:
    peaks = [record(number, [0.1, 0.4, value], of=0) for number, value in ((2, 0.80), (3, 0.88))]
    stays = [record(number, [0.1, value, value], of=1) for number, value in ((4, 0.79), (5, 0.87))]
    found = launch(LUCKY, STEADY, *peaks, *stays)
    assert [finalist.of for finalist in found.finalists] == [1, 0]
    assert found.finalists[1].over_epochs() == (pytest.approx(0.62), pytest.approx(0.22))
    assert "the one with the highest mean minus deviation over its late epochs" in "\n".join(summary_lines(found, [L2]))


@pytest.mark.parametrize(("right", "is_tied"), [(0b1111111110, True), (0b0000000000, False)])
def test_with_one_seed_each_the_questions_that_they_have_right_tell_them_apart(right: int, is_tied: bool) -> None:
    best = record(2, flat(0.9), of=0, marks=Marks(0b1111111111, (10,)))
    other = record(3, flat(0.8), of=1, marks=Marks(right, (10,)))
    found = launch(LUCKY, STEADY, best, other)
    assert [trial.number for trial in found.ties] == ([3] if is_tied else [])


def test_figures_for_scripts_have_mean_and_deviation_over_seeds() -> None:
    found = launch(LUCKY, STEADY, *(record(number, flat(value), of=0) for number, value in ((2, 0.70), (3, 0.80))))
    (finalist,) = launch_figures(found)["finalists"]
    assert (finalist["finalist_of"], finalist["trials"]) == (0, [3, 2])
    assert finalist["probe_agreement"] == {"mean": pytest.approx(0.75), "std": pytest.approx(math.sqrt(0.005))}
    assert finalist["test_accuracy"] == finalist["probe_agreement"]
    assert [row["finalist_of"] for row in launch_figures(found)["trials"]] == [0, None, None, 0]


def test_welchs_test_is_that_of_scipy() -> None:
    draws = random.Random(0)
    for _ in range(50):
        one, other = ([draws.gauss(mean, 0.1) for _ in range(draws.randint(2, 6))] for mean in (0.5, draws.uniform(0.4, 0.8)))
        assert welch(one, other) == pytest.approx(scipy.stats.ttest_ind(one, other, equal_var=False).pvalue)
    assert (welch([0.5, 0.5], [0.6, 0.6]), welch([0.5, 0.5], [0.5, 0.5])) == (0.0, 1.0)
