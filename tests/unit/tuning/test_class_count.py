"""For how many classes a study takes its presets, and that a teacher of another number is not distilled with them unsaid."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from rich.console import Console

from cpsc.data.dataset import Normalisation
from cpsc.errors import ConfigError
from cpsc.models import build_model
from cpsc.teacher import Teacher
from tuning.display import Display
from tuning.study import Study
from tuning.study.class_count import check_class_count
from tuning.study.config import resolve_study
from tuning.study.overrides import apply_overrides
from tuning.trial import prepare

Raw = dict[str, Any]
PUBLISHED = {"path": "net.pth", "normalisation": "cifar100", "image_size": 32}


def study_of(raw: Raw, **config: Any) -> Study:
    """Of a teacher from a file, without a dataset, unless `config` says otherwise."""
    space = {"student.lr": {"uniform": [0.02, 0.3]}}
    return resolve_study({"name": raw["name"], "space": space, "config": {"teacher": PUBLISHED, **config}})


def check(study: Study, num_classes: int) -> None:
    check_class_count(study.base, study.space, num_classes)


def teacher_of(classes: int) -> Teacher:
    torch.manual_seed(0)
    return Teacher(
        arch="wrn_10_1",
        class_names=tuple(map(str, range(classes))),
        channels=1,
        image_size=8,
        normalisation=Normalisation(mean=(0.5,), std=(0.5,)),
        dataset="made",
        test_accuracy=None,
        state=build_model("wrn_10_1", num_classes=classes, channels=1).state_dict(),
    )


@pytest.mark.parametrize(
    ("config", "batch"),
    [
        ({}, 512),
        ({"num_classes": 199}, 512),
        ({"num_classes": 200}, 256),
        ({"num_classes": 1000}, 64),
        ({"teacher": {**PUBLISHED, "class_names": [f"n{i}" for i in range(200)]}}, 256),
        ({"teacher": {**PUBLISHED, "factory": "mine:make", "num_classes": 200}}, 256),
        ({"dataset": {"name": "tiny_imagenet", "path": "folder"}}, 256),
        ({"dataset": {"name": "tiny_imagenet", "path": "folder"}, "num_classes": 200}, 256),
        ({"dataset": {"name": "image_folder", "path": "folder"}, "num_classes": 200}, 256),
        ({"num_classes": 200, "schedule": {"batch_size": 96}}, 96),
    ],
)
def test_presets_are_taken_for_the_classes_that_a_study_names_in_any_way(config: Raw, batch: int, raw: Raw) -> None:
    assert study_of(raw, **config).config.schedule.batch_size == batch


def test_an_override_names_them_too(raw: Raw) -> None:
    content = {"name": "s", "space": {"student.lr": {"uniform": [0.02, 0.3]}}, "config": {"teacher": PUBLISHED}}
    assert resolve_study(apply_overrides(content, {"num_classes": 200}, keys=content.keys())).config.schedule.batch_size == 256


@pytest.mark.parametrize("stated", [True, 1, 0, -3, 10.0, "10", [10]])
def test_what_is_no_number_of_classes_is_refused(stated: object, raw: Raw) -> None:
    with pytest.raises(ConfigError, match=r"config.num_classes: must be a whole number >= 2, got "):
        study_of(raw, num_classes=stated)


def test_a_number_that_the_study_contradicts_is_refused(raw: Raw) -> None:
    with pytest.raises(ConfigError) as caught:
        study_of(raw, dataset={"name": "cifar100", "path": "folder"}, num_classes=10)
    assert str(caught.value) == "config.num_classes: must be 100, as in the study's dataset or teacher, or left out, got 10"


def test_a_teacher_of_many_classes_is_not_distilled_with_values_for_few(raw: Raw) -> None:
    with pytest.raises(ConfigError) as caught:
        check(study_of(raw), 200)
    assert str(caught.value) == (
        "config.num_classes: must be 200, as many as the teacher has: schedule.batch_size of method cpsc is published as "
        "256 for 200 classes, and as 512 for the assumed 10"
    )
    check(study_of(raw, num_classes=200), 200)
    check(study_of(raw), 100)  # cpsc's paper has the same for them
    check(study_of(raw, schedule={"batch_size": 96}), 200)  # the study's own word


def test_every_method_of_a_study_is_looked_at_and_what_is_searched_is_not(raw: Raw) -> None:
    space = {"method": {"choice": ["dfad", "dafl"]}, "student.lr": {"uniform": [0.02, 0.3]}}
    content = {"name": "s", "space": space, "config": {"teacher": PUBLISHED, "epochs": 60}}
    with pytest.raises(ConfigError, match=r"weights.one_hot of method dafl is published as 0.5 for .* classes, and as 0.05 for"):
        check(resolve_study(content), 100)
    weights = {f"weights.{term}": {"uniform": [0.01, 30]} for term in ("one_hot", "balance", "activation")}
    content = {"name": "s", "space": weights, "config": {"teacher": PUBLISHED, "method": "dafl"}}
    check(resolve_study(content), 100)


@pytest.mark.parametrize("force", [False, True])
def test_before_anything_is_made_a_sweep_is_refused_or_forced_told(force: bool, raw: Raw, tmp_path: Path) -> None:
    path = tmp_path / "teacher.pt"
    teacher_of(200).save(path)
    study = study_of(raw, teacher={"path": str(path)}, probe={"num_images": 4, "batch_size": 4, "steps": 1})
    study = replace(study, storage=str(tmp_path / "runs"), local=tmp_path / "runs")
    console = Console(record=True, width=400)
    if force:
        prepare(study, Display(console=console), force=True)
        assert "schedule.batch_size of method cpsc is published as 256" in console.export_text()
    else:
        with pytest.raises(ConfigError, match=r"config.num_classes: must be 200, as many as the teacher has"):
            prepare(study, Display(console=console))
        assert not list((tmp_path / "runs").glob("probes/*"))
