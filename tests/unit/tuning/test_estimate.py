"""How long a sweep will take: what is measured of it, and what is made of that."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from cpsc.data import DatasetConfig, load_dataset
from cpsc.methods import METHODS
from cpsc.teacher import Teacher
from tests.support.studies import tiny_study
from tuning.study import Study, build_config
from tuning.study.base_config import BaseConfig
from tuning.study.config import resolve_study
from tuning.sweep import estimate
from tuning.sweep.estimate import estimate_sweep
from tuning.sweep.sweep_times import FINALISTS, PROBE, START, START_S, TEACHER, TRIALS
from tuning.trial import step_times
from tuning.trial.assets import obtain_probe, open_storage
from tuning.trial.step_times import StepTimes, time_steps, untrained_teacher

Raw = dict[str, Any]
CPU = torch.device("cpu")


@pytest.fixture
def raw(tmp_path: Path) -> Raw:
    return tiny_study() | {"storage": str(tmp_path / "runs"), "search": {"num_trials": 4, "max_concurrent": 1}}


@pytest.fixture
def even(monkeypatch: pytest.MonkeyPatch) -> None:
    """Every step takes a second, and to ask a student about an image a hundredth of one."""
    monkeypatch.setattr(estimate, "time_steps", lambda *_, **__: StepTimes(1.0, 1.0, 0.01))
    monkeypatch.setattr(estimate, "time_teacher_step", lambda *_, **__: 1.0)
    monkeypatch.setattr(estimate, "time_probe_step", lambda *_, **__: 1.0)


def without_pruning(raw: Raw) -> Study:
    return resolve_study(raw | {"prune": {"scheduler": "none"}})


def test_a_sweep_is_its_parts_each_as_many_steps_as_it_has(raw: Raw, even: None) -> None:
    found = estimate_sweep(without_pruning(raw))
    epoch_s = 2 * (1 + 2) + 0.01 * (20 + 500)
    teacher_s = 21.0  # 1,297 digits in batches of 64
    assert found.parts == {START: START_S, TEACHER: teacher_s, PROBE: 2.0, TRIALS: pytest.approx(4 * 3 * epoch_s)}
    assert (found.epoch_s, found.num_epochs) == (pytest.approx(epoch_s), 12)
    assert found.minutes == pytest.approx(sum(found.parts.values()) / 60)


def test_pruning_side_by_side_and_budgets_shorten_it(raw: Raw, even: None) -> None:
    whole = estimate_sweep(without_pruning(raw)).parts[TRIALS]
    pruned = estimate_sweep(resolve_study(raw))
    assert 4 < pruned.num_epochs < 12
    assert pruned.parts[TRIALS] == pytest.approx(whole * pruned.num_epochs / 12)
    assert estimate_sweep(without_pruning(raw | {"search": {"num_trials": 4, "max_concurrent": 1, "epoch_budget": 6}})).parts[
        TRIALS
    ] == pytest.approx(whole / 2)
    limited = estimate_sweep(without_pruning(raw | {"search": {"num_trials": 4, "max_concurrent": 1, "time_budget_s": 1.0}}))
    assert limited.parts[TRIALS] == pytest.approx(1 + whole / 4), "what runs goes on to its end"


def test_a_warm_up_without_student_and_finalists_count(raw: Raw, even: None) -> None:
    plain = estimate_sweep(without_pruning(raw)).parts[TRIALS]
    raw["config"]["schedule"]["generator_warmup_epochs"] = 2
    raw["search"]["finalists"] = {"top": 2, "seeds": 2, "epochs": 4, "cpus": 1}
    found = estimate_sweep(without_pruning(raw))
    assert found.parts[TRIALS] == pytest.approx(plain - 4 * 2 * (2 * 2)), "two epochs of each trial are without student steps"
    assert found.parts[FINALISTS] > 0


def test_examiners_are_epochs_that_nobody_stops(raw: Raw, even: None) -> None:
    pruned = estimate_sweep(resolve_study(raw))
    raw["config"]["examiners"] = {"epochs": 3, "num_images": 100}
    examined = estimate_sweep(resolve_study(raw | {"objective": "exam_score"}))
    assert examined.num_epochs == pytest.approx(12)
    assert examined.epoch_s == pytest.approx(pruned.epoch_s + 0.01 * 100)


def test_what_is_there_is_not_made_again(raw: Raw, even: None) -> None:
    study = resolve_study(raw)
    digits = load_dataset(DatasetConfig(name="digits"))
    teacher = replace(untrained_teacher("wrn_10_1", num_classes=10, channels=1, image_size=16), dataset="digits", test_accuracy=0.5)
    assert study.teacher.recipe is not None
    storage = open_storage(study)
    with storage.writing(f"teachers/digits-wrn_10_1-{digits.digest[:8]}-{study.teacher.recipe.digest}.pt") as path:
        teacher.save(path)
    assert estimate_sweep(study).parts.keys() == {START, PROBE, TRIALS}
    obtain_probe(teacher, study.probe, storage, CPU, estimate.Display(quiet=True))
    assert estimate_sweep(study).parts.keys() == {START, TRIALS}


def test_where_nobody_knows_the_images_there_is_a_reason_instead(raw: Raw, tmp_path: Path) -> None:
    raw["config"]["dataset"] = {"name": "image_folder", "path": str(tmp_path)}
    found = estimate_sweep(resolve_study(raw))
    assert found.minutes is None
    (line,) = found.lines()
    assert line.startswith("no time estimate: the teacher is not trained yet, and the image size of image_folder is known only")


def test_an_absent_teacher_is_a_reason_too(raw: Raw) -> None:
    raw["config"] |= {"teacher": {"path": "absent.pt"}, "dataset": None}
    assert "absent.pt: no such teacher file" in estimate_sweep(resolve_study(raw)).reason


def test_of_many_kinds_of_run_some_are_measured_and_that_is_said(raw: Raw, even: None) -> None:
    raw["space"] = {"method": {"choice": ["cpsc", "dafl", "dfad", "zskt", "dfq"]}, "student.lr": {"uniform": [0.02, 0.3]}}
    raw["start"] = []
    assert "2 of the 5 kinds of run that are searched" in estimate_sweep(resolve_study(raw)).left_out


def test_real_steps_of_a_tiny_study_are_measured(raw: Raw, tmp_path: Path) -> None:
    threads = torch.get_num_threads()
    found = estimate_sweep(resolve_study(raw))
    assert found.reason == ""
    assert all(0 < seconds < 600 for seconds in found.parts.values())
    assert found.parts.keys() == {START, TEACHER, PROBE, TRIALS}
    assert torch.get_num_threads() == threads
    assert list(tmp_path.iterdir()) == [], "nothing is written"


@pytest.mark.parametrize("method", METHODS)
def test_steps_of_every_method_can_be_measured(method: str) -> None:
    teacher: Teacher = untrained_teacher("wrn_10_1", num_classes=4, channels=1, image_size=8)
    own: Raw = {"student": {"arch": "wrn_10_1"}, "generator": {"width": 8, "latent_dim": 16}, "schedule": {"batch_size": 24}}
    config = build_config(BaseConfig(own=own | {"epochs": 3}, num_classes=4), {"method": method})
    steps = time_steps(config, teacher, CPU, within_s=0.01)
    assert min(steps.generator_s, steps.student_s, steps.answer_s) > 0


def test_a_memory_is_updated_as_often_to_a_student_step() -> None:
    own = {"replay": {"kind": "vae", "updates": 4}, "schedule": {"student_steps": 10, "generator_steps": 10}}
    shortened = step_times._shortened(build_config(BaseConfig(own=own), {}), 64)
    assert (shortened.schedule.student_steps, shortened.schedule.generator_steps, shortened.replay.updates) == (4, 4, 2)


@pytest.mark.parametrize(
    ("within_s", "measured", "expected"),
    [(1e9, [8, 64], 6.5), (15.0, [8, 16], 6.5), (0.0, [8], 7.2)],  # a tenth of a second an image, and one tenth beside
)
def test_long_batches_are_continued_from_shorter_ones(within_s: float, measured: list[int], expected: float) -> None:
    asked: list[int] = []

    def times_of(batch: int) -> list[float]:
        asked.append(batch)
        return [0.1 + 0.1 * batch]

    assert step_times._scaled(64, times_of, within_s=within_s) == [pytest.approx(expected)]
    assert asked == measured
