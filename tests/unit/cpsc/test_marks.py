"""Marks: what is read is what was written, and when two students are two."""

import random

import pytest
import torch

from cpsc.examiners import Exam
from cpsc.marks import Marks, is_distinct


def of(*sources: list[int], own: int | None = None) -> Marks:
    return Marks.of([bool(right) for source in sources for right in source], [len(source) for source in sources], own)


@pytest.mark.parametrize("marks", [of([1, 0, 0, 1, 1]), of([0] * 9, [1] * 8, own=1), of([1] * 700, [0, 1] * 100, [1, 0] * 3)])
def test_a_text_holds_all_of_it(marks: Marks) -> None:
    assert Marks.parse(marks.to_text()) == marks


@pytest.mark.parametrize("text", ["", "marks", "1.2", "a:b:c", "4::not base64!", "4:x:AA=="])
def test_another_text_is_no_marks(text: str) -> None:
    assert Marks.parse(text) is None


@pytest.mark.parametrize(
    ("only_one", "only_other"), [(0, 0), (3, 0), (5, 0), (6, 0), (20, 9), (20, 8), (60, 40), (62, 38), (8, 20)]
)
def test_of_one_source_it_is_mcnemars_test_with_edwards_correction(only_one: int, only_other: int) -> None:
    one = of([1] * only_one + [0] * only_other + [1] * 30 + [0] * 30)
    other = of([0] * only_one + [1] * only_other + [1] * 30 + [0] * 30)
    discordant = only_one + only_other
    expected = discordant > 0 and (abs(only_one - only_other) - 1) ** 2 / discordant > 3.8416
    assert is_distinct(one, other) == is_distinct(other, one) == expected


def test_students_of_one_quality_are_told_apart_no_more_often_than_one_time_in_twenty() -> None:
    draws = random.Random(0)
    found = 0
    for _ in range(400):
        pair = [of(*[[draws.random() < 0.7 for _ in range(size)] for size in (100, 50, 50)]) for _ in range(2)]
        found += is_distinct(*pair)
    assert 0.005 < found / 400 < 0.06


def test_five_points_are_told_apart_where_students_err_alike() -> None:
    base = [1] * 60 + [0] * 40
    assert is_distinct(of(base), of([1] * 52 + [0] * 48))
    assert not is_distinct(of(base), of([1] * 57 + [0] * 43))


def test_what_either_has_made_itself_does_not_count() -> None:
    one, other = of([1] * 50, [1] * 50, [1] * 50), of([1] * 50, [0] * 50, [1] * 50)
    assert is_distinct(one, other)
    assert not is_distinct(of([1] * 50, [1] * 50, [1] * 50, own=1), other)
    assert not is_distinct(one, of([1] * 50, [0] * 50, [1] * 50, own=1))
    assert is_distinct(of([1] * 50, [1] * 50, [1] * 50, own=2), other)


def test_students_of_different_exams_are_not_told_apart() -> None:
    assert not is_distinct(of([1] * 90), of([0] * 80))


def test_an_exams_marks_are_of_the_questions_that_count_for_its_score() -> None:
    rng = torch.Generator().manual_seed(0)
    sources = torch.tensor([1] * 6 + [0] * 10 + [2] * 4)
    exam = Exam(sources, fading=False)
    agrees = torch.rand(20, generator=rng) < 0.5
    marks = exam.marks(agrees, own=2)
    assert (marks.sizes, marks.own) == ((5, 3, 2), 2)
    bits = [marks.right >> place & 1 for place in range(10)]
    assert (sum(bits[:5]) / 5 + sum(bits[5:8]) / 3) / 2 == pytest.approx(exam.scores(agrees, own=2).for_choice)
    alone = exam.marks(agrees, by_probe_alone=True)
    assert (alone.sizes, alone.right.bit_count()) == ((10,), int(agrees[sources == 0].sum()))
    assert marks.right.bit_count() == sum(bits)
