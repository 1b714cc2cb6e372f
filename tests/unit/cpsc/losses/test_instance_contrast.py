import math

import pytest
import torch
from torch.nn import functional as F

from cpsc.losses.instance_contrast import instance_discrimination


def test_without_a_memory_it_is_the_mean_cross_entropy_of_finding_the_own_global_view(unit_features) -> None:
    local, global_ = unit_features(5, 4, seed=0), unit_features(5, 4, seed=1)
    expected = F.cross_entropy(local @ global_.T / 0.1, torch.arange(5))
    torch.testing.assert_close(instance_discrimination(local, global_, num_new=5, temperature=0.1), expected)


def test_two_orthogonal_images_give_the_value_worked_out_by_hand() -> None:
    views = torch.eye(2)
    value = instance_discrimination(views, views, num_new=2, temperature=0.5)
    assert value.item() == pytest.approx(math.log(1 + math.exp(-2.0)))


def test_the_means_over_new_and_over_remembered_images_are_added(unit_features) -> None:
    local, global_ = unit_features(7, 4, seed=0), unit_features(7, 4, seed=1)
    losses = F.cross_entropy(local @ global_.T / 0.2, torch.arange(7), reduction="none")
    value = instance_discrimination(local, global_, num_new=2, temperature=0.2)
    torch.testing.assert_close(value, losses[:2].mean() + losses[2:].mean())
    assert abs(value - losses.mean()) > 0.5


def test_the_global_side_carries_no_gradient(unit_features) -> None:
    local, global_ = unit_features(6, 4, seed=0).requires_grad_(), unit_features(6, 4, seed=1).requires_grad_()
    instance_discrimination(local, global_, num_new=4, temperature=0.1).backward()
    assert global_.grad is None
    assert local.grad.abs().max() > 1e-3


def test_the_local_view_is_what_looks_for_the_global_one(unit_features) -> None:
    local, global_ = unit_features(6, 4, seed=0), unit_features(6, 4, seed=1)
    forward = instance_discrimination(local, global_, num_new=6, temperature=0.1)
    assert abs(forward - instance_discrimination(global_, local, num_new=6, temperature=0.1)) > 1e-3


def test_images_that_can_be_told_apart_are_preferred(unit_features) -> None:
    apart = torch.eye(6, dtype=torch.float64)
    alike = unit_features(1, 6, seed=0).repeat(6, 1)
    losses = [instance_discrimination(views, views, num_new=6, temperature=0.1).item() for views in (apart, alike)]
    assert losses == pytest.approx([math.log(1 + 5 * math.exp(-10.0)), math.log(6.0)])
