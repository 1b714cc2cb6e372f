import math

import pytest
import torch
from torch.distributions import Normal, kl_divergence

from cpsc.losses.variational import latent_kl


def test_a_standard_normal_costs_nothing_and_has_no_gradient() -> None:
    mean, log_var = torch.zeros(2, 3, requires_grad=True), torch.zeros(2, 3, requires_grad=True)
    value = latent_kl(mean, log_var)
    value.sum().backward()
    assert value.tolist() == [0.0, 0.0]
    assert mean.grad.abs().max() == log_var.grad.abs().max() == 0.0


def test_the_value_worked_out_by_hand_sums_over_dimensions_and_keeps_the_samples_apart() -> None:
    values = latent_kl(torch.tensor([[1.0, 2.0], [0.0, 0.0]]), torch.tensor([[0.0, 0.0], [math.log(4.0), 0.0]]))
    assert values.tolist() == pytest.approx([0.5 * (1 + 4), 0.5 * (4 - 1 - math.log(4.0))])


def test_it_is_the_divergence_of_the_two_normals() -> None:
    rng = torch.Generator().manual_seed(0)
    mean, log_var = torch.randn(4, 5, generator=rng), torch.randn(4, 5, generator=rng)
    expected = kl_divergence(Normal(mean, (0.5 * log_var).exp()), Normal(torch.zeros(4, 5), torch.ones(4, 5))).sum(1)
    torch.testing.assert_close(latent_kl(mean, log_var), expected)
    assert (expected > 0).all()
