import math

import pytest
import torch
from torch import nn
from torch.distributions import Normal, kl_divergence

from cpsc.losses.statistics import batch_statistics_distance, gaussian_statistics_kl
from cpsc.statistics import ChannelStatistics, StatisticsRecorder


def stats(mean: list[float], var: list[float]) -> ChannelStatistics:
    return ChannelStatistics(torch.tensor(mean), torch.tensor(var))


def test_distance_adds_the_two_unsquared_norms_of_every_layer() -> None:
    observed = [stats([3.0, 4.0], [1.0, 1.0]), stats([1.0], [7.0])]
    stored = [stats([0.0, 0.0], [1.0, 1.0]), stats([0.0], [5.0])]
    assert batch_statistics_distance(observed, stored).item() == pytest.approx(5.0 + 0.0 + 1.0 + 2.0)


def test_distance_is_zero_with_a_zero_gradient_where_the_statistics_agree() -> None:
    mean, var = torch.tensor([1.0, 2.0], requires_grad=True), torch.tensor([3.0, 4.0], requires_grad=True)
    value = batch_statistics_distance([ChannelStatistics(mean, var)], [stats([1.0, 2.0], [3.0, 4.0])])
    value.backward()
    assert value.item() == 0.0
    assert torch.equal(mean.grad, torch.zeros(2))
    assert torch.equal(var.grad, torch.zeros(2))


@pytest.mark.parametrize("distance", [batch_statistics_distance, gaussian_statistics_kl])
def test_two_forward_passes_in_one_recording_are_refused(distance) -> None:
    layer = stats([1.0], [1.0])
    with pytest.raises(ValueError, match="2 layers observed, 1 stored"):
        distance([layer, layer], [layer])


@pytest.mark.parametrize(("correction", "is_zero"), [(0, True), (1, False)])
def test_the_distance_of_a_batch_norm_is_zero_for_the_biased_variance_only(correction: int, is_zero: bool) -> None:
    images = torch.randn(2, 3, 2, 2, generator=torch.Generator().manual_seed(0))
    norm = nn.BatchNorm2d(3).eval()
    var, mean = torch.var_mean(images, dim=(0, 2, 3), correction=correction)
    norm.running_mean.copy_(mean)
    norm.running_var.copy_(var)
    recorder = StatisticsRecorder(norm)
    _, observed = recorder.observe(norm, images)
    distance = batch_statistics_distance(observed, recorder.stored).item()
    assert (distance < 1e-6) == is_zero
    if not is_zero:  # N = 8: the unbiased variance is 8/7 of the biased one
        assert distance == pytest.approx((var / 8).norm().item(), rel=1e-4)


def test_the_gaussian_form_is_the_value_worked_out_by_hand() -> None:
    value = gaussian_statistics_kl([stats([1.0, 0.0], [2.0, 3.0])], [stats([3.0, 0.0], [4.0, 3.0])])
    assert value.item() == pytest.approx((4 + 2) / 8 - 0.5 * math.log(2 / 4) - 0.5)


def test_the_gaussian_form_sums_the_divergences_of_all_layers_and_channels() -> None:
    rng = torch.Generator().manual_seed(0)
    draw = [(torch.randn(k, generator=rng), torch.rand(k, generator=rng) + 0.1) for k in (3, 2, 3, 2)]
    observed, stored = ([ChannelStatistics(*pair) for pair in half] for half in (draw[:2], draw[2:]))
    expected = sum(
        kl_divergence(Normal(seen.mean, seen.var.sqrt()), Normal(kept.mean, kept.var.sqrt())).sum()
        for seen, kept in zip(observed, stored, strict=True)
    )
    torch.testing.assert_close(gaussian_statistics_kl(observed, stored), expected)


def test_the_gaussian_form_is_zero_with_a_zero_gradient_where_the_statistics_agree() -> None:
    mean, var = torch.tensor([1.0, 2.0], requires_grad=True), torch.tensor([3.0, 4.0], requires_grad=True)
    value = gaussian_statistics_kl([ChannelStatistics(mean, var)], [stats([1.0, 2.0], [3.0, 4.0])])
    value.backward()
    assert value.item() == pytest.approx(0.0, abs=1e-6)
    assert mean.grad.abs().max() == 0.0
    assert var.grad.abs().max() < 1e-7


def test_the_gaussian_form_is_finite_for_a_channel_that_never_varies() -> None:
    mean, var = torch.zeros(2, requires_grad=True), torch.zeros(2, requires_grad=True)
    value = gaussian_statistics_kl([ChannelStatistics(mean, var)], [stats([0.0, 0.0], [1.0, 0.0])])
    value.backward()
    assert value.isfinite()
    assert mean.grad.isfinite().all()
    assert var.grad.isfinite().all()
