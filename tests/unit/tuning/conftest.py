"""A small valid study, as content and as a file; and what a small teacher's trials share."""

import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml

from cpsc.data.dataset import Normalisation
from cpsc.models import build_model
from cpsc.probe import ProbeSet
from cpsc.rng import seeded_init
from cpsc.teacher import Teacher
from tuning.trial import Assets

Write = Callable[[Any], Path]


@pytest.fixture(scope="session", autouse=True)
def temporary_folders(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """Temporary folders lie in pytest's own, which it cleans: a journal of a test needs a folder, whose end nobody waits for."""
    before, tempfile.tempdir = tempfile.tempdir, str(tmp_path_factory.mktemp("temporary"))
    yield
    tempfile.tempdir = before


@pytest.fixture
def raw() -> dict[str, Any]:
    """The content of a valid study file; each test gets its own."""
    return {
        "name": "small",
        "config": {
            "dataset": "digits",
            "teacher": {"arch": "wrn_10_1", "epochs": 5},
            "student": {"arch": "wrn_10_1", "warmup_epochs": 1},
            "epochs": 9,
        },
        "objective": "probe_agreement",
        "space": {
            "weights.contrast": {"loguniform": [0.05, 5]},
            "student.lr": {"uniform": [0.02, 0.3]},
            "schedule.student_steps": {"randint": [1, 6]},
            "cpsc.contrast": {"choice": ["teacher_anchor", "two_view"]},
        },
    }


@pytest.fixture
def write(tmp_path: Path) -> Write:
    """Writes a study file, from its content or from text, and returns its path."""

    def write_study(content: Any) -> Path:
        path = tmp_path / "study.yaml"
        if isinstance(content, bytes):
            path.write_bytes(content)
        else:
            path.write_text(content if isinstance(content, str) else yaml.safe_dump(content), encoding="utf-8")
        return path

    return write_study


@pytest.fixture(scope="session")
def assets() -> Assets:
    """An untrained teacher of three classes of 8x8 images in two channels, and twenty probe images."""
    with seeded_init(0, "teacher"):
        network = build_model("wrn_10_1", num_classes=3, channels=2)
    teacher = Teacher(
        arch="wrn_10_1",
        class_names=("a", "b", "c"),
        channels=2,
        image_size=8,
        normalisation=Normalisation(mean=(0.3, 0.6), std=(0.2, 0.5)),
        dataset="none",
        test_accuracy=None,
        state=network.state_dict(),
    )
    images = torch.randint(0, 256, (20, 2, 8, 8), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
    probe = ProbeSet(images=images, labels=torch.arange(20) % 3, teacher_digest=teacher.digest, teacher_accuracy=1.0)
    return Assets(teacher, probe, None)
