"""Answers kept epoch by epoch: what is read is what was said, and a run goes on with them."""

from pathlib import Path
from typing import Any

import pytest
import torch

from cpsc.answers import AnswerLog, Answers
from cpsc.errors import CheckpointError

TEACHER = torch.tensor([[2.0, -1.0, 0.5], [0.0, 3.0, 1.0]])


def test_what_was_said_is_read_by_epoch(tmp_path: Path) -> None:
    log = AnswerLog(TEACHER)
    log.add(2, TEACHER + 1)
    log.add(1, TEACHER - 1)
    log.save(tmp_path / "answers.pt")
    answers = Answers.load(tmp_path / "answers.pt")
    assert answers.epochs == (1, 2)
    assert torch.equal(answers.teacher, TEACHER)
    assert torch.equal(answers.students, torch.stack([TEACHER - 1, TEACHER + 1]))
    assert answers.students.dtype == torch.float32


def test_before_the_first_epoch_there_are_none(tmp_path: Path) -> None:
    AnswerLog(TEACHER).save(tmp_path / "answers.pt")
    answers = Answers.load(tmp_path / "answers.pt")
    assert (answers.epochs, tuple(answers.students.shape)) == ((), (0, 2, 3))


def test_a_run_that_goes_on_repeats_an_epoch_and_keeps_the_others(tmp_path: Path) -> None:
    first, second = AnswerLog(TEACHER), AnswerLog(TEACHER)
    for epoch in (1, 2):
        first.add(epoch, TEACHER * epoch)
    first.save(tmp_path / "half.pt")
    second.load(tmp_path / "half.pt")
    second.add(2, TEACHER * 4)
    second.add(3, TEACHER)
    second.save(tmp_path / "end.pt")
    answers = Answers.load(tmp_path / "end.pt")
    assert answers.epochs == (1, 2, 3)
    assert torch.equal(answers.students, torch.stack([TEACHER, TEACHER * 4, TEACHER]))


def test_what_float16_cannot_hold_is_its_largest(tmp_path: Path) -> None:
    log = AnswerLog(TEACHER)
    log.add(1, TEACHER * 1e9)
    log.save(tmp_path / "answers.pt")
    assert Answers.load(tmp_path / "answers.pt").students.abs().max() == torch.finfo(torch.float16).max


def test_a_thousand_images_of_ten_classes_take_twenty_kilobytes_an_epoch(tmp_path: Path) -> None:
    log = AnswerLog(torch.randn(1000, 10))
    for epoch in range(1, 11):
        log.add(epoch, torch.randn(1000, 10))
    log.save(tmp_path / "answers.pt")
    assert (tmp_path / "answers.pt").stat().st_size < 11 * 20_000 + 6_000


@pytest.mark.parametrize(
    "changes",
    [
        {"version": 2},
        {"teacher": [[1.0]]},
        {"teacher": TEACHER.int()},
        {"epochs": [1, 1]},
        {"epochs": [0, 1]},
        {"epochs": [1]},
        {"epochs": (1, 2)},
        {"students": TEACHER},
        {"students": torch.zeros(2, 2, 4)},
        {"students": torch.full((2, 2, 3), torch.nan)},
    ],
)
def test_a_file_of_something_else_is_refused(changes: dict[str, Any], tmp_path: Path) -> None:
    payload = {"version": 1, "teacher": TEACHER, "epochs": [1, 2], "students": torch.zeros(2, 2, 3)}
    torch.save(payload, tmp_path / "sound.pt")
    Answers.load(tmp_path / "sound.pt")
    torch.save(payload | changes, tmp_path / "answers.pt")
    with pytest.raises(CheckpointError) as caught:
        Answers.load(tmp_path / "answers.pt")
    assert str(tmp_path / "answers.pt") in str(caught.value)


def test_answers_to_other_images_are_refused(tmp_path: Path) -> None:
    AnswerLog(TEACHER[:1]).save(tmp_path / "answers.pt")
    with pytest.raises(CheckpointError, match=r"must hold answers of shape \(2, 3\) to this run's images, holds \(1, 3\)"):
        AnswerLog(TEACHER).load(tmp_path / "answers.pt")


def test_whence_images_come_is_kept_with_the_answers(tmp_path: Path) -> None:
    sources = torch.tensor([0, 3])
    log = AnswerLog(TEACHER, sources, own=3)
    log.add(1, TEACHER)
    log.save(tmp_path / "answers.pt")
    answers = Answers.load(tmp_path / "answers.pt")
    assert (answers.sources.tolist(), answers.own) == ([0, 3], 3)
    of_probe = answers.from_source(answers.sources == 0)
    assert (of_probe.teacher.shape, of_probe.students.shape, of_probe.sources.tolist()) == ((1, 3), (1, 1, 3), [0])
    with pytest.raises(CheckpointError, match="to this run's images"):
        AnswerLog(TEACHER, torch.tensor([0, 0])).load(tmp_path / "answers.pt")
