"""Hints: squared differences of features, in units of the teacher's variance."""

import pytest
import torch

from cpsc.losses.hints import hint_distance


def test_it_is_the_squared_difference_an_image_by_the_teachers_variance_summed_over_stages() -> None:
    torch.manual_seed(0)
    teacher = [torch.randn(3, 4, 5, 5), 10 * torch.randn(3, 8, 2, 2)]
    student = [features + shift for features, shift in zip(teacher, (0.5, 2.0), strict=True)]
    expected = 0.25 / teacher[0].var().item() + 4.0 / teacher[1].var().item()
    assert hint_distance(student, teacher).tolist() == pytest.approx([expected] * 3, rel=1e-4)


def test_the_same_features_are_no_distance_and_one_image_counts_for_itself() -> None:
    torch.manual_seed(0)
    features = torch.randn(3, 4, 5, 5)
    other = features.clone()
    other[1] += 1
    assert hint_distance([features], [features]).tolist() == [0.0] * 3
    first, second, third = hint_distance([other], [features]).tolist()
    assert (first, third) == (0.0, 0.0)
    assert second > 0


def test_features_that_are_all_alike_divide_nothing_by_zero() -> None:
    assert torch.isfinite(hint_distance([torch.ones(2, 1, 2, 2)], [torch.zeros(2, 1, 2, 2)])).all()
