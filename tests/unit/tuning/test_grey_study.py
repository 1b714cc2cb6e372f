"""MNIST's form, one channel of 28x28 pixels, as a user has it: from Parquet files to a teacher, its public file and a student."""

import io
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from rich.console import Console

from cpsc.data import Dataset, load_dataset
from cpsc.errors import ConfigError
from cpsc.teacher import Teacher
from tests.unit.cpsc.data.files import cell, write_parquet
from tests.unit.cpsc.foreign_files import as_safetensors, saved, under
from tuning.display import Display
from tuning.study import Study
from tuning.study.config import resolve_study
from tuning.trial.assets import obtain_teacher, open_storage, prepare
from tuning.trial.files import SAMPLES_FILE
from tuning.trial.local import run_trial

pytestmark = pytest.mark.slow  # teachers are trained
CLASSES = tuple("0123456789")
RECIPE = {"arch": "lenet5", "epochs": 6, "batch_size": 40, "warmup_epochs": 0, "optimizer": "adamw", "lr": 0.003}
CONSTANTS = {"mean": [0.1307], "std": [0.3081]}


@pytest.fixture(scope="module")
def mnist(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A pattern a class under noise, as grey PNG files in rows."""
    rng = np.random.default_rng(7)
    patterns = rng.integers(0, 2, (len(CLASSES), 7, 7)).repeat(4, axis=1).repeat(4, axis=2) * 160
    folder = tmp_path_factory.mktemp("mnist")
    for part, number in (("train", 240), ("test", 60)):
        labels = [index % len(CLASSES) for index in range(number)]
        images = [(patterns[label] + rng.integers(0, 90, (28, 28))).astype(np.uint8) for label in labels]
        columns = {"image": [cell(image) for image in images], "label": labels}
        write_parquet(folder / f"{part}-00000-of-00001.parquet", columns, names=CLASSES)
    return folder


def study_of(dataset: dict[str, Any], teacher: dict[str, Any], folder: Path, *, student: str = "lenet5_half") -> Study:
    config = {
        "dataset": {"name": "parquet", "flip": False, **dataset},
        "teacher": teacher,
        "probe": {"num_images": 20, "batch_size": 20, "steps": 3},
        "student": {"arch": student, "warmup_epochs": 0},
        "generator": {"width": 8, "latent_dim": 8},
        "schedule": {"iterations": 2, "generator_steps": 1, "student_steps": 2, "batch_size": 16},
        "epochs": 1,
        "precision": "fp32",
    }
    return resolve_study({"name": "grey", "config": config, "objective": "probe_agreement", "storage": str(folder / "runs")})


def loaded(study: Study, display: Display) -> Dataset:
    assert study.dataset is not None
    return load_dataset(study.dataset, say=display.say)


def telling() -> tuple[Display, io.StringIO]:
    said = io.StringIO()
    return Display(console=Console(file=said, width=400)), said


@pytest.fixture(scope="module")
def trained(mnist: Path, tmp_path_factory: pytest.TempPathFactory) -> Teacher:
    """A LeNet that was trained here on the grey images as they are."""
    study = study_of({"path": str(mnist), "channels": 1}, RECIPE, tmp_path_factory.mktemp("teacher"))
    display, said = telling()
    teacher = prepare(study, display).teacher
    assert (teacher.arch, teacher.channels, teacher.image_size, teacher.class_names) == ("lenet5", 1, 28, CLASSES)
    assert teacher.test_accuracy is not None
    assert teacher.test_accuracy > 0.9
    assert "all its images are grey" not in said.getvalue()
    return teacher


def public_file(teacher: Teacher, path: Path) -> Path:
    state = {name: tensor.clone() for name, tensor in teacher.state.items()}
    return as_safetensors(state, path) if path.suffix == ".safetensors" else saved({"net": under("module.", state)}, path)


def named(path: Path, teacher: Teacher) -> dict[str, Any]:
    constants = {"mean": list(teacher.normalisation.mean), "std": list(teacher.normalisation.std)}
    return {"path": str(path), "normalisation": constants, "image_size": 28, "variant": "standard", "min_accuracy": 0.9}


@pytest.mark.parametrize(("file", "student"), [("lenet.pth", "lenet5_half"), ("lenet.safetensors", "wrn_10_1")])
def test_a_public_grey_lenet_is_distilled_blind_and_tested_on_grey_images(
    file: str, student: str, trained: Teacher, mnist: Path, tmp_path: Path
) -> None:
    teacher = named(public_file(trained, tmp_path / file), trained)
    study = study_of({"path": str(mnist)}, teacher, tmp_path, student=student)
    display, said = telling()
    (result,) = run_trial(study, {}, display, output=tmp_path / "trial")
    assert f"teacher lenet5 {trained.digest[:12]}: 10 classes" in said.getvalue()
    assert "dataset parquet: its images are grey and are read with one channel, as the teacher expects" in said.getvalue()
    assert 0.0 <= result["test_accuracy"] <= 1.0
    assert result["teacher_frechet_distance"] >= 0.0
    picture = np.array(Image.open(tmp_path / "trial" / SAMPLES_FILE))
    assert picture.shape[0] > 10 * 28
    assert (picture[:, :, :1] == picture).all()
    assert picture.std() > 0


def test_coloured_images_for_a_grey_teacher_are_refused_with_the_way_out(trained: Teacher, mnist: Path, tmp_path: Path) -> None:
    images = np.random.default_rng(0).integers(0, 255, (20, 28, 28, 3), np.uint8)
    columns = {"image": [cell(image) for image in images], "label": [index % 10 for index in range(20)]}
    for part in ("train", "test"):
        write_parquet(tmp_path / f"{part}.parquet", columns, names=CLASSES)
    teacher = named(public_file(trained, tmp_path / "lenet.pth"), trained) | {"min_accuracy": 0.0}
    with pytest.raises(ConfigError, match=r"10 classes of 1x28x28 .* 10 classes of 3x28x28: .* read it with dataset.channels: 1"):
        prepare(study_of({"path": str(tmp_path)}, teacher, tmp_path), telling()[0], force=True)
    grey = prepare(study_of({"path": str(tmp_path), "channels": 1}, teacher, tmp_path), telling()[0], force=True)
    assert grey.dataset is not None
    assert grey.dataset.channels == 1


def test_a_teacher_is_trained_anew_where_its_images_are_treated_otherwise(mnist: Path, tmp_path: Path) -> None:
    recipe = RECIPE | {"epochs": 1}
    made = set()
    for dataset in ({"channels": 3}, {"channels": 1}, {"channels": 1, "flip": True}, {**CONSTANTS}, {**CONSTANTS, "flip": True}):
        study = study_of({"path": str(mnist), **dataset}, recipe, tmp_path)
        for _ in range(2):
            display = telling()[0]
            teacher = obtain_teacher(study.teacher, loaded(study, display), open_storage(study), torch.device("cpu"), display)
        assert teacher.channels == (3 if dataset.get("channels") == 3 else 1)
        assert ("mean" in dataset) == (teacher.normalisation.mean == (0.1307,))
        made.add(teacher.digest)
    assert len(made) == len(list((tmp_path / "runs" / "teachers").iterdir())) == 5


def test_who_trains_on_grey_images_in_colour_is_told_of_the_other_way(mnist: Path, tmp_path: Path) -> None:
    display, said = telling()
    loaded(study_of({"path": str(mnist)}, RECIPE, tmp_path), display)
    assert "all its images are grey; set dataset.channels to 1, or they have three equal channels" in said.getvalue()
