"""Every sampler beside conditional parameters, pruned and diverged trials, and a driver that was killed."""

import logging
import tempfile
from pathlib import Path
from typing import Any

import pytest
from ray import cloudpickle

from tuning.cluster.session import LOG_LEVELS
from tuning.launch import Journal, LaunchHistory, TrialHistory
from tuning.outcome import Outcome
from tuning.process_settings import log_levels
from tuning.search.optuna_search import StudySearch, build_search
from tuning.study.config import resolve_study

Raw = dict[str, Any]
SAMPLERS = ["tpe", "gp", "prior", "random"]
CONDITION = {"cpsc.contrast": "two_view"}


def search_of(raw: Raw, sampler: str, history: LaunchHistory | None = None, **settings: Any) -> StudySearch:
    raw["space"]["weights.contrast"] = {"loguniform": [0.05, 5], "when": CONDITION}
    study = resolve_study(raw | {"search": {"sampler": sampler, "startup_trials": 3, **settings}})
    return build_search(study, history or LaunchHistory(), Journal(Path(tempfile.mkdtemp())), study.start)


def run(search: StudySearch, count: int, last: str = "completed") -> list[Raw]:
    """`count` trials one after the other, of which each ends so -> their points."""
    points = []
    for place in range(count):
        config = search.suggest(f"t{place}")
        assert isinstance(config, dict)
        points.append(config["point"])
        value = 0.0 if last == "diverged" else config["point"]["student.lr"]
        result = {"best_probe_agreement": value, "training_iteration": 1, "epoch": 9 if last == "completed" else 1}
        search.on_trial_complete(f"t{place}", result | {"diverged": last == "diverged"})
    return points


@pytest.mark.parametrize("sampler", SAMPLERS)
def test_conditional_parameters_exist_where_they_should_and_nobody_is_warned(
    raw: Raw, sampler: str, caplog: pytest.LogCaptureFixture
) -> None:
    with log_levels(LOG_LEVELS):
        points = run(search_of(raw, sampler), 12)
    assert all(("weights.contrast" in point) is (point["cpsc.contrast"] == "two_view") for point in points)
    assert {point["cpsc.contrast"] for point in points} == {"teacher_anchor", "two_view"}
    assert [record.message for record in caplog.records if record.levelno >= logging.WARNING] == []


def test_a_gaussian_process_learns_of_completed_trials_alone(raw: Raw) -> None:
    assert run(search_of(raw, "gp"), 8, "pruned") == run(search_of(raw, "random"), 8, "pruned")
    assert run(search_of(raw, "gp"), 8)[:3] == run(search_of(raw, "random"), 8)[:3]
    assert run(search_of(raw, "gp"), 8)[3:] != run(search_of(raw, "random"), 8)[3:]


@pytest.mark.parametrize("sampler", SAMPLERS)
def test_ray_can_take_a_search_along(raw: Raw, sampler: str) -> None:
    search = search_of(raw, sampler)
    run(search, 6)
    assert run(cloudpickle.loads(cloudpickle.dumps(search)), 3) == run(search, 3)


@pytest.mark.parametrize("sampler", SAMPLERS)
def test_trials_that_all_diverged_are_no_obstacle(raw: Raw, sampler: str) -> None:
    assert len(run(search_of(raw, sampler), 8, "diverged")) == 8


def past(points: list[Raw]) -> LaunchHistory:
    """An attempt that completed trials of these `points`, each better than the one before."""
    trials = {}
    for number, point in enumerate(points):
        values = {1: 0.1 * number, 9: 0.1 * number + 0.1}
        trials[number] = TrialHistory(number, point, values=values, checkpoints=[], outcome=Outcome.COMPLETED)
    return LaunchHistory(trials=trials, num_attempts=1)


@pytest.mark.parametrize("sampler", SAMPLERS)
def test_a_search_that_is_rebuilt_goes_on_from_its_history_and_not_from_its_beginning(raw: Raw, sampler: str) -> None:
    points = run(search_of(raw, sampler), 6)
    rebuilt = [run(search_of(raw, sampler, past(points)), 4) for _ in range(2)]
    assert rebuilt[0] == rebuilt[1]
    assert not [point for point in rebuilt[0] if point in points]


def test_a_rebuilt_prior_does_not_begin_with_what_is_published_again(raw: Raw) -> None:
    published = run(search_of(raw, "prior"), 1)
    assert published == resolve_study(raw | {"start": [{}]}).start
    assert published[0] not in run(search_of(raw, "prior", past(published)), 6)
