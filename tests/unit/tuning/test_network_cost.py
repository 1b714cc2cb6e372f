"""Costs by name: the published counts of parameters and multiply-adds."""

import pytest
import torch

from cpsc.data.dataset import Normalisation
from cpsc.models import build_model
from cpsc.teacher import Teacher
from tuning.trial.model_cost import student_cost, teacher_cost


@pytest.fixture(scope="module")
def teacher() -> Teacher:
    torch.manual_seed(0)
    return Teacher(
        arch="wrn_16_2",
        class_names=tuple("abcdefghij"),
        channels=3,
        image_size=32,
        normalisation=Normalisation((0.5,) * 3, (0.5,) * 3),
        dataset="none",
        test_accuracy=None,
        state=build_model("wrn_16_2", num_classes=10, channels=3).state_dict(),
    )


def test_teacher_and_student_cost_what_is_published(teacher: Teacher) -> None:
    assert teacher_cost(teacher)["teacher.parameters"] == 691_674
    assert teacher_cost(teacher)["teacher.macs"] == pytest.approx(101.1e6, rel=0.01)
    student = student_cost(teacher, "wrn_16_1")
    assert student["student.parameters"] == 175_066
    assert student["student.macs"] == pytest.approx(26.7e6, rel=0.01)


def test_a_students_cost_is_the_callers_own(teacher: Teacher) -> None:
    student_cost(teacher, "wrn_16_1").clear()
    assert student_cost(teacher, "wrn_16_1")
