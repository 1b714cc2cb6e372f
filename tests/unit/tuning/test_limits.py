"""Limits on what a student may cost: none beyond them is proposed, Optuna hears of it, and what cannot be met is refused."""

from pathlib import Path
from typing import Any

import pytest
from optuna.trial import TrialState

from cpsc.errors import ConfigError
from tests.support.events import made
from tests.unit.tuning.conftest import Write
from tuning.launch import Journal, LaunchHistory, replay_events
from tuning.launch.events import AttemptStart, LaunchStart, Rejected
from tuning.search.first_points import first_points
from tuning.search.optuna_search import build_search
from tuning.study import Study, load_study
from tuning.study.config import resolve_study
from tuning.trial import Assets
from tuning.trial.limits import check_limits, limits_of, within_limits
from tuning.trial.model_cost import student_cost

Raw = dict[str, Any]
MACS = "student.macs"
ARCHS = ["wrn_10_1", "wrn_16_1", "wrn_16_2"]


def study_of(raw: Raw, limits: Any, **more: Any) -> Study:
    space = {"student.arch": {"choice": ARCHS}, "student.lr": {"uniform": [0.02, 0.3]}}
    return resolve_study(raw | {"space": space, "search": {"num_trials": 30, "limits": limits, **more.pop("search", {})}, **more})


def macs(assets: Assets, arch: str) -> int:
    return student_cost(assets.teacher, arch)[MACS]


def test_no_point_beyond_is_proposed_and_optuna_hears_of_each(raw: Raw, assets: Assets, tmp_path: Path) -> None:
    study = study_of(raw, {MACS: macs(assets, "wrn_16_1")})
    journal = Journal(tmp_path)
    search = build_search(study, LaunchHistory(), journal, study.start, limits_of(study, assets.teacher))
    archs = []
    for number in range(30):
        config = search.suggest(str(number))
        assert isinstance(config, dict)
        assert config["number"] == number
        archs.append(config["point"]["student.arch"])
        search.on_trial_complete(str(number), {study.metric: 0.5, "epoch": 9, "diverged": False})
    assert set(archs) == {"wrn_10_1", "wrn_16_1"}
    rejected = [trial for trial in search.study.trials if trial.params["student.arch"] == "wrn_16_2"]
    assert rejected
    assert all(trial.state is TrialState.PRUNED for trial in rejected)
    beyond = macs(assets, "wrn_16_2") / macs(assets, "wrn_16_1") - 1
    assert rejected[0].constraints == {MACS: pytest.approx(beyond)}
    told = [event for event in journal.events() if isinstance(event, Rejected)]
    assert [event.point for event in told] == [trial.params for trial in rejected]


def test_a_resumed_search_knows_what_was_rejected(raw: Raw, assets: Assets, tmp_path: Path) -> None:
    study = study_of(raw, {MACS: macs(assets, "wrn_16_1")})
    point = {"student.arch": "wrn_16_2", "student.lr": 0.1}
    history = replay_events(
        [
            made(LaunchStart),
            made(AttemptStart),
            made(Rejected, point=point, excess={MACS: 1.5}),
        ],
        metric=study.metric,
    )
    (known,) = build_search(study, history, Journal(tmp_path), study.start, limits_of(study, assets.teacher)).study.trials
    assert (known.params, known.constraints) == (point, {MACS: 1.5})


def test_examiners_and_first_points_are_within(raw: Raw, assets: Assets) -> None:
    study = study_of(raw, {MACS: macs(assets, "wrn_10_1")})
    assert {point["student.arch"] for point in first_points(study, 8, limits_of(study, assets.teacher))} == {"wrn_10_1"}


def test_listed_points_beyond_are_left_out_and_said(raw: Raw, assets: Assets) -> None:
    study = study_of(raw, {MACS: macs(assets, "wrn_16_1")}, start=[{"student.arch": arch} for arch in ARCHS])
    assert [point["student.arch"] for point in within_limits(study, assets.teacher).start] == ARCHS[:2]
    said = check_limits(study, assets.teacher)
    assert said.startswith("above search.limits, so never trained, and with them 1 of 3 listed points: wrn_16_2 (student.macs ")


def test_a_grid_runs_the_points_within(raw: Raw, assets: Assets) -> None:
    raw |= {"space": {"student.arch": {"choice": ARCHS}, "weights.l2": {"choice": [1, 5]}}}
    study = resolve_study(raw | {"search": {"sampler": "grid", "limits": {MACS: macs(assets, "wrn_16_1")}}})
    run = within_limits(study, assets.teacher)
    assert (len(study.start), len(run.start), run.search.num_trials) == (6, 4, 4)


def test_a_limit_that_no_student_meets_is_refused_with_what_the_cheapest_has(raw: Raw, assets: Assets) -> None:
    with pytest.raises(ConfigError, match=r"search.limits.student.macs: 1 is below every student .* the cheapest, wrn_10_1, has "):
        check_limits(study_of(raw, {MACS: 1}), assets.teacher)


def test_limits_that_no_student_meets_together_are_refused(raw: Raw, assets: Assets, monkeypatch: pytest.MonkeyPatch) -> None:
    slim, deep = {MACS: 10, "student.parameters": 30}, {MACS: 30, "student.parameters": 10}
    monkeypatch.setattr("tuning.trial.limits.student_cost", lambda teacher, arch: slim if arch == "wrn_10_1" else deep)
    with pytest.raises(ConfigError, match=r"search.limits: no student of this study is within all of them: wrn_10_1 "):
        check_limits(study_of(raw, {MACS: 20, "student.parameters": 20}), assets.teacher)


def test_without_limits_nothing_is_left_out(raw: Raw, assets: Assets) -> None:
    study = study_of(raw, {})
    assert within_limits(study, assets.teacher) is study
    assert not check_limits(study, assets.teacher)


@pytest.mark.parametrize(
    ("limits", "says"),
    [
        ({"student.mac": 5}, r"student.mac: unknown key, did you mean student.macs\?"),
        ({MACS: 0}, "greater than 0"),
        ({MACS: "1e6"}, "number"),
    ],
)
def test_limits_are_checked(raw: Raw, limits: Any, says: str) -> None:
    with pytest.raises(ConfigError, match=rf"search.limits.*{says}"):
        study_of(raw, limits)


def test_limits_can_be_set_from_the_command_line(raw: Raw, write: Write) -> None:
    path = write(raw | {"search": {"limits": {"student.parameters": 1e6}}})
    assert load_study(path, ["search.limits.student.macs=5e7"]).search.limits.bounds == {MACS: 5e7, "student.parameters": 1e6}
