"""What a launch found: trials, curves, the blind choice; on hand-made records and read back from a small store."""

from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

import pytest
from mlflow import MlflowClient
from mlflow.entities import Metric, Param, Run, RunData, RunInfo, RunTag

from cpsc.errors import ConfigError
from cpsc.marks import Marks
from tuning.outcome import RUNNING, Outcome
from tuning.results import Launch, TrialRecord
from tuning.results.choice import ranked
from tuning.results.from_mlflow import load_launch
from tuning.study.config import resolve_study
from tuning.sweep.transfer import read_sources
from tuning.tracking.run_lookup import one_each
from tuning.tracking.tags import KIND_TAG, LAUNCH_ID_TAG, LAUNCH_TAG, NUMBER_TAG, OUTCOME_TAG

pytestmark = pytest.mark.slow  # whole sweeps are read from MLflow stores
Curve = dict[int, float]


def record(
    number: int = 0,
    *,
    agreement: Curve | None = None,
    kl: Curve | None = None,
    accuracy: Curve | None = None,
    outcome: Outcome | None = Outcome.COMPLETED,
) -> TrialRecord:
    curves = {"probe_agreement": agreement or {}, "probe_kl": kl or {}, "test_accuracy": accuracy or {}}
    return TrialRecord(number=number, run_id=f"run{number}", outcome=outcome, reason="", params={}, curves=curves)


def launch(*trials: TrialRecord, objective: str = "probe_agreement", epochs: int = 9) -> Launch:
    return Launch(name="small", run_id="parent", objective=objective, epochs=epochs, trials=trials)


def test_the_best_epoch_has_the_highest_objective() -> None:
    assert record(agreement={1: 0.2, 2: 0.8, 3: 0.5}).best_epoch("probe_agreement") == 2


def test_a_tie_goes_to_the_lower_probe_kl() -> None:
    assert record(agreement={1: 0.8, 2: 0.8, 3: 0.8}, kl={1: 0.5, 2: 0.1, 3: 0.3}).best_epoch("probe_agreement") == 2


def test_a_tie_in_both_goes_to_the_earlier_epoch() -> None:
    assert record(agreement={1: 0.2, 2: 0.8, 3: 0.8}, kl={1: 0.0, 2: 0.1, 3: 0.1}).best_epoch("probe_agreement") == 2


def test_the_objective_may_be_the_test_accuracy() -> None:
    trial = record(agreement={1: 0.9, 2: 0.1}, accuracy={1: 0.3, 2: 0.6})
    assert trial.best_epoch("test_accuracy") == 2
    assert trial.at_best("probe_agreement", "test_accuracy") == 0.1


def test_a_diverged_trial_has_no_best_epoch_however_good_it_was() -> None:
    trial = record(agreement={1: 0.99}, outcome=Outcome.DIVERGED)
    assert trial.best_epoch("probe_agreement") is None
    assert trial.at_best("probe_agreement", "probe_agreement") is None
    assert launch(trial).chosen is None


def test_a_trial_without_results_has_no_best_epoch() -> None:
    assert record().best_epoch("probe_agreement") is None
    assert record().num_epochs == 0


def test_the_value_at_the_best_epoch_is_not_the_best_value() -> None:
    trial = record(agreement={1: 0.2, 2: 0.8}, accuracy={1: 0.9, 2: 0.7})
    assert trial.at_best("test_accuracy", "probe_agreement") == 0.7
    assert trial.at_best("probe_kl", "probe_agreement") is None


def test_epochs_are_counted_by_the_longest_curve() -> None:
    assert record(agreement={1: 0.1, 2: 0.2}, accuracy={3: 0.5}).num_epochs == 3


def test_the_epochs_of_a_launch_are_what_ran_and_what_would_have() -> None:
    found = launch(record(0, agreement={1: 0.1, 2: 0.2}), record(1, agreement={1: 0.1}), record(2), epochs=9)
    assert (found.epochs_run, found.epochs_unpruned) == (3, 27)


def test_the_first_trial_is_the_chosen_one() -> None:
    first, second = record(4, agreement={1: 0.9}), record(1, agreement={1: 0.8})
    assert launch(first, second).chosen is first
    assert launch().chosen is None


def marked(number: int, right: int, *, of: int = 200, macs: int = 100) -> TrialRecord:
    """A trial whose student has the first `right` of `of` questions right."""
    marks = Marks.of([place < right for place in range(of)], [of])
    return replace(record(number, agreement={1: right / of}), marks=marks, params={"student.macs": str(macs)})


def test_trials_that_cannot_be_told_from_the_best_are_ties() -> None:
    found = launch(*ranked([marked(0, 180), marked(1, 150), marked(2, 178), marked(3, 181)], "probe_agreement"))
    assert found.chosen is not None
    assert (found.chosen.number, [trial.number for trial in found.ties]) == (3, [0, 2])


def test_of_ties_the_cheapest_student_is_chosen_and_no_worse_one_for_its_price() -> None:
    trials = [marked(0, 180, macs=300), marked(1, 150, macs=10), marked(2, 178, macs=100), marked(3, 179, macs=100)]
    found = launch(*ranked(trials, "probe_agreement"))
    assert [trial.number for trial in found.trials] == [3, 0, 2, 1]
    assert [trial.number for trial in found.ties] == [0, 2]


def test_where_nothing_is_recorded_of_what_a_student_has_right_the_best_score_is_chosen() -> None:
    trials = [replace(marked(number, right, macs=macs), marks=None) for number, right, macs in ((0, 180, 300), (1, 179, 10))]
    found = launch(*ranked(trials, "probe_agreement"))
    assert (found.trials[0].number, list(found.ties)) == (0, [])


def test_a_trial_without_a_result_is_no_tie() -> None:
    diverged = replace(marked(1, 180), outcome=Outcome.DIVERGED)
    found = launch(*ranked([marked(0, 180), diverged], "probe_agreement"))
    assert (found.trials[0].number, list(found.ties)) == (0, [])
    assert not launch(*ranked([diverged], "probe_agreement")).ties


def test_outcomes_are_counted() -> None:
    found = launch(record(0), record(1, outcome=Outcome.PRUNED), record(2, outcome=Outcome.PRUNED), record(3, outcome=None))
    assert [found.count(outcome) for outcome in (Outcome.COMPLETED, Outcome.PRUNED, Outcome.FAILED)] == [1, 2, 0]


def test_regret_is_what_the_blind_choice_costs() -> None:
    chosen = record(0, agreement={1: 0.9, 2: 0.8}, accuracy={1: 0.70, 2: 0.95})
    better = record(1, agreement={1: 0.85}, accuracy={1: 0.75})
    assert launch(chosen, better).regret() == pytest.approx(0.05)
    assert launch(better, record(2, agreement={1: 0.1}, accuracy={1: 0.6})).regret() == 0.0


def test_a_diverged_trial_does_not_count_in_the_regret() -> None:
    chosen = record(0, agreement={1: 0.9}, accuracy={1: 0.7})
    assert launch(chosen, record(1, agreement={1: 0.1}, accuracy={1: 0.9}, outcome=Outcome.DIVERGED)).regret() == 0.0


def test_there_is_no_regret_without_labels_or_without_a_choice() -> None:
    assert launch(record(0, agreement={1: 0.9})).regret() is None
    assert launch().regret() is None


def test_the_rank_correlation_of_a_hand_computed_case() -> None:
    """Ranks 1 2 3 4 against 1 3 2 4: 1 - 6 * 2 / (4 * 15) = 0.8; and 1 2 3 against 3 2 1."""
    first = record(0, agreement={1: 0.1, 2: 0.2}, accuracy={1: 0.1, 2: 0.3})
    second = record(1, agreement={1: 0.3, 2: 0.4}, accuracy={1: 0.2, 2: 0.4})
    assert launch(first, second).rank_correlation() == pytest.approx(0.8)
    falling = record(0, agreement={1: 0.1, 2: 0.2, 3: 0.3}, accuracy={1: 0.9, 2: 0.5, 3: 0.2})
    assert launch(falling).rank_correlation() == pytest.approx(-1.0)


def test_epochs_without_a_label_are_left_out_of_the_rank_correlation() -> None:
    trial = record(0, agreement={1: 0.1, 2: 0.2, 3: 0.3, 4: 0.0}, accuracy={1: 0.1, 2: 0.2, 3: 0.3})
    assert launch(trial).rank_correlation() == pytest.approx(1.0)


@pytest.mark.parametrize(
    "trial",
    [
        record(agreement={1: 0.1, 2: 0.2}, accuracy={1: 0.1, 2: 0.2}),
        record(agreement={1: 0.1, 2: 0.2, 3: 0.3}),
        record(agreement={1: 0.5, 2: 0.5, 3: 0.5}, accuracy={1: 0.1, 2: 0.2, 3: 0.3}),
        record(agreement={1: 0.1, 2: 0.2, 3: 0.3}, accuracy={1: 0.5, 2: 0.5, 3: 0.5}),
        record(),
    ],
    ids=["two pairs", "no labels", "equal agreement", "equal accuracy", "no results"],
)
def test_there_is_no_rank_correlation_where_it_would_mean_nothing(trial: TrialRecord) -> None:
    assert launch(trial).rank_correlation() is None


# --- read back from a store ---


class Store(NamedTuple):
    client: MlflowClient
    uri: str
    runs: dict[str, str]


def _add_launch(client: MlflowClient, experiment: str, name: str, *, started: int) -> str:
    parent = client.create_run(experiment, start_time=started, tags={KIND_TAG: "launch", LAUNCH_TAG: name}, run_name=name)
    client.log_batch(parent.info.run_id, params=[Param("objective", "probe_agreement"), Param("epochs", "9")])
    return parent.info.run_id


def _add_trial(
    client: MlflowClient, experiment: str, parent: str, number: int, outcome: str | None, curves: dict[str, Curve]
) -> str:
    tags = {KIND_TAG: "trial", NUMBER_TAG: str(number), "mlflow.parentRunId": parent, OUTCOME_TAG: outcome or RUNNING}
    tags |= {"reason": f"reason {number}"} if outcome else {}
    run_id = client.create_run(experiment, tags=tags).info.run_id
    metrics = [Metric(name, value, 1000 + step, step) for name, curve in curves.items() for step, value in curve.items()]
    client.log_batch(run_id, metrics=metrics, params=[Param("student.lr", f"0.{number}"), Param("method", "cpsc")])
    return run_id


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Store:
    """One study of two launches; the later has a trial of every kind."""
    folder: Path = tmp_path_factory.mktemp("store")
    client = MlflowClient(tracking_uri=f"sqlite:///{folder / 'mlflow.db'}")
    experiment = client.create_experiment("small", (folder / "artifacts").as_uri())
    client.create_experiment("empty", (folder / "artifacts").as_uri())
    first = _add_launch(client, experiment, "small", started=1000)
    _add_trial(client, experiment, first, 0, "completed", {"probe_agreement": {1: 0.99}, "probe_kl": {1: 0.1}})
    second = _add_launch(client, experiment, "small-2", started=2000)
    pruned = {"probe_agreement": {1: 0.3}, "probe_kl": {1: 2.0}, "test_accuracy": {1: 0.2}}
    _add_trial(client, experiment, second, 0, "pruned", pruned)
    _add_trial(client, experiment, second, 1, "diverged", {"probe_agreement": {1: 0.95}, "probe_kl": {1: 0.1}})
    higher_kl = {"probe_agreement": {1: 0.5, 2: 0.8}, "probe_kl": {1: 1.0, 2: 0.4}, "test_accuracy": {1: 0.4, 2: 0.9}}
    _add_trial(client, experiment, second, 2, "completed", higher_kl)
    lower_kl = {"probe_agreement": {1: 0.8, 2: 0.7}, "probe_kl": {1: 0.2, 2: 0.5}, "test_accuracy": {1: 0.6, 2: 0.7}}
    best = _add_trial(client, experiment, second, 3, "completed", lower_kl)
    _add_trial(client, experiment, second, 4, None, {})
    return Store(client, f"sqlite:///{folder / 'mlflow.db'}", {"first": first, "second": second, "best": best})


def test_a_search_takes_over_trials_of_a_store(store: Store, raw: dict[str, Any]) -> None:
    entry = {"tracking": store.uri, "study": "small"}
    study = resolve_study(raw | {"space": {"student.lr": {"uniform": [0.1, 0.9]}}, "transfer": [entry]})
    (source,) = read_sources(study)
    assert [point["student.lr"] for _, point in source.trials] == [0.1, 0.2, 0.3]
    assert str(source) == "transfer from small-2: 3 trials; left out: 1 outside the range of student.lr, 1 not ended"


def test_the_latest_launch_is_read_unless_one_is_named(store: Store) -> None:
    latest = load_launch(store.client, "small")
    assert (latest.name, latest.run_id, latest.objective, latest.epochs) == ("small-2", store.runs["second"], "probe_agreement", 9)
    named = load_launch(store.client, "small", "small")
    assert (named.name, named.run_id, len(named.trials)) == ("small", store.runs["first"], 1)


def test_trials_come_best_first_with_ties_by_probe_kl_and_those_without_a_result_last(store: Store) -> None:
    assert [trial.number for trial in load_launch(store.client, "small").trials] == [3, 2, 0, 1, 4]


def test_a_trial_is_read_back_whole(store: Store) -> None:
    trial = load_launch(store.client, "small").trials[0]
    assert trial.run_id == store.runs["best"]
    assert (trial.outcome, trial.params["student.lr"]) == (Outcome.COMPLETED, "0.3")
    measured = {name: curve for name, curve in trial.curves.items() if curve}
    assert measured == {"probe_agreement": {1: 0.8, 2: 0.7}, "probe_kl": {1: 0.2, 2: 0.5}, "test_accuracy": {1: 0.6, 2: 0.7}}


def test_a_trial_without_an_end_or_a_metric_is_read_as_running(store: Store) -> None:
    trial = load_launch(store.client, "small").trials[-1]
    assert (trial.outcome, trial.num_epochs, trial.reason) == (None, 0, "")


def test_the_choice_and_its_regret_come_out_of_the_store(store: Store) -> None:
    latest = load_launch(store.client, "small")
    assert latest.chosen is not None
    assert latest.chosen.number == 3
    assert latest.regret() == pytest.approx(0.3)
    assert (latest.epochs_run, latest.epochs_unpruned) == (6, 45)


@pytest.mark.parametrize(
    ("study", "name", "message"),
    [
        ("other", None, "study 'other': is not in this MLflow store, which has "),
        ("empty", None, "study 'empty': no launch is recorded"),
        ("small", "small-9", "study 'small': launch 'small-9' is not recorded"),
        ("small", "it's", "study 'small': launch \"it's\" is not recorded"),
    ],
)
def test_a_launch_that_is_not_there_is_refused_in_one_line(store: Store, study: str, name: str | None, message: str) -> None:
    with pytest.raises(ConfigError) as caught:
        load_launch(store.client, study, name)
    assert str(caught.value).startswith(message)


def test_the_studies_of_the_store_are_named_where_another_is_asked_for(store: Store) -> None:
    with pytest.raises(ConfigError) as caught:
        load_launch(store.client, "other")
    assert set(str(caught.value).split("which has ")[1].split(", ")) == {"small", "empty"}


@pytest.mark.parametrize("first", ["a", "b"])
def test_runs_that_name_no_launchs_id_are_never_taken_for_one(first: str) -> None:
    """Those of earlier versions; which of two was kept hung on their random ids."""
    runs = [bare_run(first), bare_run("b" if first == "a" else "a")]
    assert one_each(runs) == runs
    twins = [bare_run(run.info.run_id, **{LAUNCH_ID_TAG: "same"}) for run in runs]
    assert len(one_each(twins)) == 1


def bare_run(run_id: str, **tags: str) -> Run:
    info = RunInfo(
        run_id=run_id, experiment_id="0", user_id="", status="FINISHED", start_time=0, end_time=1, lifecycle_stage="active"
    )
    return Run(info, RunData(tags=[RunTag(key, value) for key, value in tags.items()]))
