"""Examiners of a study: which points they are, where they lie, how one goes on, and trials that take their epochs over."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from cpsc.errors import DivergedError
from cpsc.examiners import ExamImages, run_digest
from tests.support.trials import make_context
from tuning.replay.comparison import is_of_the_moment
from tuning.search.first_points import begins_with, first_points
from tuning.storage import Storage
from tuning.study import Study, build_config
from tuning.study.config import resolve_study
from tuning.sweep.examiners import spread
from tuning.trial import Assets
from tuning.trial.context import TrialContext
from tuning.trial.examiners import Examiners, ExaminerTraining, epoch_name, examiners_folder
from tuning.trial.trainable import local_trainable

Raw = dict[str, Any]
POINT = {"weights.l2": 2.0}


def lasting(result: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in result.items() if not is_of_the_moment(name)}


@pytest.fixture
def study(raw: Raw) -> Study:
    return resolve_study(raw | {"objective": "exam_score"})


@pytest.fixture(scope="module")
def context() -> TrialContext:
    return make_context({})


@pytest.fixture
def training(context: TrialContext, study: Study, tmp_path: Path) -> ExaminerTraining:
    """Of examiners of three epochs that give three images after the second and four after the third."""
    return ExaminerTraining(
        study=replace(study, base=context.base),
        teacher=context.teacher,
        probe=context.probe,
        storage=Storage(str(tmp_path)),
        folder="examiners/x",
        shares={2: 3, 3: 4},
        last=3,
        code_folders=(),
    )


def test_the_search_begins_with_its_own_points_and_as_many_random_ones_as_examiners_need(raw: Raw) -> None:
    study = resolve_study(raw | {"objective": "exam_score", "start": [{"student.lr": 0.2}]})
    points = begins_with(study)
    assert (len(points), points[0]) == (4, study.start[0])
    assert all(domain.contains(point[path]) for point in points for path, domain in study.space.items())
    assert len({point["student.lr"] for point in points}) == 4
    assert first_points(study, 8)[:4] == points
    other = resolve_study(raw | {"objective": "exam_score", "search": {"seed": 1}})
    assert begins_with(other)[1:] != points[1:]


def test_a_search_by_the_probe_set_begins_as_it_did(raw: Raw) -> None:
    study = resolve_study(raw | {"start": [{"student.lr": 0.2}]})
    assert begins_with(study) == study.start


@pytest.mark.parametrize(
    ("methods", "count", "among", "places"),
    [
        (["cpsc"] * 8, 4, 4, [0, 1, 2, 3]),
        (["cpsc", "cpsc", "cpsc", "dfq", "dfq", "cmi"], 4, 6, [0, 3, 5, 1]),
        (["cpsc", "dfq", "cmi", "adi", "dafl"], 3, 5, [0, 1, 2]),
        (["cpsc", "dfq", "cmi"], 4, 2, [0, 1]),
    ],
)
def test_of_each_method_one_becomes_an_examiner(methods: list[str], count: int, among: int, places: list[int]) -> None:
    assert spread(methods, count, among=among) == places


def test_examiners_are_named_by_all_that_decides_their_images(raw: Raw, assets: Assets) -> None:
    def name(**changes: Any) -> str:
        return examiners_folder(resolve_study(raw | {"objective": "exam_score"} | changes), assets.teacher)

    same = [name(), name(resources={"cpus": 2}), name(prune={"grace_epochs": 2}), name(search={"num_trials": 40})]
    assert len(set(same)) == 1
    config = raw["config"]
    others = [
        name(search={"seed": 1}),
        name(start=[{"student.lr": 0.2}]),
        name(config=config | {"weights": {"kl": 2}}),
        name(config=config | {"examiners": {"count": 5}}),
        name(space=raw["space"] | {"weights.label": {"uniform": [0, 1]}}),
    ]
    assert len({*others, *same}) == 6


def test_an_examiner_that_was_killed_goes_on_and_gives_the_same_images(training: ExaminerTraining, tmp_path: Path) -> None:
    run = run_digest(build_config(training.study.base, POINT))
    strength = training.run(POINT)
    assert 0 <= strength <= 1
    assert training.num_trained([run]) == 3
    images = training.images_of(run)
    assert (len(images), images.dtype) == (7, torch.uint8)
    (tmp_path / epoch_name(training.folder, run, 3)).unlink()
    (tmp_path / epoch_name(training.folder, run, 2)).write_bytes(b"half")
    again = replace(training)
    assert (again.run(POINT), again.num_trained([run])) == (strength, 3)
    assert again.run(POINT) == strength, "one that has come to its end is asked again"
    assert torch.equal(again.images_of(run), images)


def test_one_that_diverges_says_why(training: ExaminerTraining) -> None:
    with pytest.raises(DivergedError, match="diverged_above"):
        training.run({"weights.l2": 1e30})


def test_a_trial_that_is_an_examiner_takes_its_epochs_over_and_says_the_same(
    training: ExaminerTraining, context: TrialContext, monkeypatch: pytest.MonkeyPatch
) -> None:
    runs, strengths = {}, {}
    for point in (POINT, {"weights.l2": 1.0}, {"weights.l2": 0.5}):
        strength, run = training.run(point), run_digest(build_config(context.base, point))
        runs[run], strengths[run] = training.images_of(run), strength
    exam = ExamImages.of_runs(runs, strengths, context.teacher)
    kept, gone = (
        replace(context, examiners=Examiners(exam, folder), objective="exam_score", storage=training.storage)
        for folder in (training.folder, "nowhere")
    )
    plain, taking = local_trainable(gone, POINT), local_trainable(kept, POINT)
    calls: list[int] = []
    train = taking.distiller.train_epoch
    monkeypatch.setattr(taking.distiller, "train_epoch", lambda: calls.append(1) or train())
    for _ in range(4):
        here, there = taking.step(), plain.step()
        assert lasting(here) == lasting(there)
    assert len(calls) == 1, "three of its four epochs were trained before"
    assert here["best_exam_score"] >= here["exam_score"]
