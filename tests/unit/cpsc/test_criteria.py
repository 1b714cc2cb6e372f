"""Criteria against values by hand, and what each of them does not look at."""

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from cpsc import criteria
from cpsc.criteria import CRITERIA, discriminating_agreement, peer_agreement

TEACHER = torch.tensor([[4.0, 0.0, 0.0], [0.0, 2.0, 1.0]])
STUDENT = torch.tensor([[1.0, 0.0, -1.0], [0.0, 1.0, 2.0]])
LOG_HALVES = torch.tensor([[0.5, 0.5], [0.25, 0.75]]).log()


def random_logits(seed: int, images: int = 40, classes: int = 6) -> Tensor:
    return torch.randn(images, classes, generator=torch.Generator().manual_seed(seed))


def test_probability_of_the_teachers_class() -> None:
    expected = (math.e / (math.e + 1 + 1 / math.e) + math.e / (1 + math.e + math.e**2)) / 2
    assert criteria.teacher_class_probability(STUDENT, TEACHER) == pytest.approx(expected)


def test_correlation_of_logits_is_the_mean_of_cosines() -> None:
    # (1, 0, -1) with (8, -4, -4)/3, and (-1, 0, 1) with (-1, 1, 0).
    expected = (4 / (math.sqrt(2) * math.sqrt(96) / 3) + 1 / 2) / 2
    assert criteria.logit_correlation(STUDENT, TEACHER) == pytest.approx(expected)


def test_the_order_of_classes_is_spearmans_and_equal_ones_share_their_rank() -> None:
    # Ranks (2, 1, 0) with (2, 0.5, 0.5), and (0, 1, 2) with (0, 2, 1).
    expected = (1.5 / (math.sqrt(2) * math.sqrt(1.5)) + 1 / 2) / 2
    assert criteria.class_order(STUDENT, TEACHER) == pytest.approx(expected)


def test_kl_and_overlap() -> None:
    teacher, student = LOG_HALVES, torch.zeros(2, 2)
    assert criteria.negative_kl(student, teacher) == pytest.approx(-(0.25 * math.log(0.5) + 0.75 * math.log(1.5)) / 2)
    assert criteria.overlap(student, teacher) == pytest.approx((1 + 0.75) / 2)


@pytest.mark.parametrize("factor", [0.5, 2.0, 4.0])
def test_at_the_best_temperature_confidence_does_not_count(factor: float) -> None:
    teacher = random_logits(0)
    assert criteria.negative_matched_kl(factor * teacher, teacher) == pytest.approx(0.0, abs=1e-6)
    assert criteria.negative_kl(factor * teacher, teacher) < -0.01


def test_where_the_teacher_doubts_counts_more() -> None:
    teacher = torch.tensor([[2.0, 0.0], [0.0, 4.0], [6.0, 0.0]])  # margins 2, 4, 6, of which the median is 4
    weights = [math.exp(-margin / 4) for margin in (2, 4, 6)]
    right_on_the_closest = torch.tensor([[1.0, 0.0], [1.0, 0.0], [0.0, 1.0]])
    assert criteria.doubtful_agreement(right_on_the_closest, teacher) == pytest.approx(weights[0] / sum(weights))


def test_cka_is_one_for_a_turned_and_scaled_copy_and_zero_for_a_constant() -> None:
    teacher = random_logits(1)
    turn = torch.linalg.qr(torch.randn(6, 6, generator=torch.Generator().manual_seed(2))).Q
    assert criteria.logit_cka(3 * teacher @ turn + 5, teacher) == pytest.approx(1.0, abs=1e-5)
    assert criteria.logit_cka(torch.ones(40, 6), teacher) == 0.0


def test_those_of_confidence_and_spread() -> None:
    sure_and_spread, sure_of_one, unsure = 100 * torch.eye(4), torch.tensor([[100.0, 0, 0, 0]]).repeat(4, 1), torch.zeros(4, 4)
    for criterion, values in {
        criteria.nuclear_norm: (1.0, 0.5, 0.25),  # singular values 1 1 1 1, then 2, then 1; over sqrt(16)
        criteria.information: (math.log(4), 0.0, 0.0),
        criteria.confidence_norm: (0.25**0.25, 0.25**0.25, 0.25),
    }.items():
        found = [criterion(student, TEACHER) for student in (sure_and_spread, sure_of_one, unsure)]
        assert found == pytest.approx(values, abs=1e-6), criterion.__name__


@pytest.mark.parametrize("name", CRITERIA)
@given(seed=st.integers(0, 1000))
def test_no_criterion_depends_on_the_order_of_images_and_none_prefers_another_to_the_teacher_itself(name: str, seed: int) -> None:
    student, teacher = random_logits(seed), random_logits(seed + 1)
    criterion = CRITERIA[name]
    order = torch.randperm(40, generator=torch.Generator().manual_seed(seed))
    assert criterion(student[order], teacher[order]) == pytest.approx(criterion(student, teacher), abs=1e-5)
    if name not in ("nuclear norm", "information", "confidence"):  # these do not look at the teacher
        assert criterion(teacher, teacher) >= criterion(student, teacher)


def test_a_run_is_compared_with_other_runs_alone() -> None:
    """Classes 0 and 1; the first run's two students say 0 0 and 0 1, the second's one says 0 1, the third's 1 1."""
    said = lambda *classes: torch.nn.functional.one_hot(torch.tensor(classes), 2).float()  # noqa: E731
    answers = [torch.stack([said(0, 0), said(0, 1)]), said(0, 1)[None], said(1, 1)[None]]
    assert peer_agreement(answers) == [[0.25, 0.75], [pytest.approx((0.5 + 1 + 0.5) / 3)], [pytest.approx((0 + 0.5 + 0.5) / 3)]]


def test_images_that_tell_students_apart_count_and_those_that_all_get_right_do_not() -> None:
    teacher = torch.eye(3)
    right, wrong = teacher, teacher.roll(1, dims=1)

    def student(*correct: bool) -> Tensor:
        return torch.stack([right[image] if is_right else wrong[image] for image, is_right in enumerate(correct)])

    good, bad = student(True, True, True), student(True, False, False)
    # Over the others, image 0 is always right and says nothing; images 1 and 2 go with the whole.
    found = discriminating_agreement([student(False, True, True)[None], good[None], bad[None]], teacher)
    assert found[0] == [pytest.approx(1.0)]
    assert discriminating_agreement([student(True, False, False)[None], good[None], bad[None]], teacher)[0] == [pytest.approx(0.0)]


def test_where_no_image_tells_all_count_alike() -> None:
    teacher = torch.eye(3)
    alike = teacher.repeat(2, 1, 1)
    assert discriminating_agreement([teacher.roll(1, dims=1)[None], alike], teacher) == [[0.0], [1.0, 1.0]]
