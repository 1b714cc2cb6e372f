"""A teacher whose training was interrupted: it goes on where it was, says so, and leaves nothing behind."""

import io
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from rich.console import Console

from cpsc.data import Dataset, digits
from cpsc.data.dataset import Split
from cpsc.teacher import Teacher
from cpsc.teacher_training import TeacherRecipe, train_teacher
from tests.support.making import Interrupting, keep_every_state
from tuning.display import Display
from tuning.storage import Storage
from tuning.trial.making_teacher import make_teacher

CPU = torch.device("cpu")
RECIPE = TeacherRecipe(arch="wrn_10_1", epochs=3, warmup_epochs=0)
NAME, UNFINISHED = "teachers/a.pt", "teachers/a.unfinished.pt"


@pytest.fixture
def few() -> Dataset:
    dataset = digits.load()
    return replace(dataset, train=Split(dataset.train.images[:300], dataset.train.labels[:300]))


@pytest.fixture(autouse=True)
def kept_at_every_batch(monkeypatch: pytest.MonkeyPatch) -> None:
    keep_every_state(monkeypatch)


def test_it_goes_on_where_it_was_and_gets_the_same_weights(few: Dataset, tmp_path: Path) -> None:
    storage, screen = Storage(str(tmp_path)), io.StringIO()
    console = Console(file=screen, width=120, highlight=False, color_system=None)
    with pytest.raises(KeyboardInterrupt):
        make_teacher(RECIPE, few, storage, NAME, CPU, Interrupting(console, at="teacher wrn_10_1: 2/3"))
    assert storage.names("teachers") == ["a.unfinished.pt"]
    make_teacher(RECIPE, few, storage, NAME, CPU, Display(console=console))
    assert "teacher wrn_10_1: continues in epoch 2 of 3, where it was interrupted" in screen.getvalue()
    assert Teacher.load(tmp_path / NAME).digest == train_teacher(RECIPE, few, CPU).digest
    assert storage.names("teachers") == ["a.pt"]


def test_what_cannot_be_gone_on_with_is_begun_anew(few: Dataset, tmp_path: Path) -> None:
    (tmp_path / "teachers").mkdir()
    (tmp_path / UNFINISHED).write_bytes(b"half a file")
    make_teacher(RECIPE, few, Storage(str(tmp_path)), NAME, CPU, Display(quiet=True))
    assert [path.name for path in (tmp_path / "teachers").iterdir()] == ["a.pt"]
