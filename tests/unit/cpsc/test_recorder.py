import pytest
import torch
from torch import nn

from cpsc.errors import ConfigError
from cpsc.models import build_model
from cpsc.statistics import StatisticsRecorder, channel_statistics


@pytest.fixture
def network(teacher) -> nn.Module:
    return teacher.build(torch.device("cpu"))


def images(num: int = 6) -> torch.Tensor:
    return torch.randn(num, 1, 8, 8, generator=torch.Generator().manual_seed(0))


def test_a_recording_holds_mean_and_biased_variance_of_every_batch_norm_input_in_network_order(network) -> None:
    inputs = []
    layers = [module for module in network.modules() if isinstance(module, nn.BatchNorm2d)]
    for layer in layers:
        layer.register_forward_hook(lambda _module, args, _out: inputs.append(args[0]))
    recorder = StatisticsRecorder(network)
    _, observed = recorder.observe(network, images())
    assert len(observed) == len(layers) == len(inputs)
    for seen, activations, stored, layer in zip(observed, inputs, recorder.stored, layers, strict=True):
        flat = activations.transpose(0, 1).flatten(1)
        torch.testing.assert_close(seen.mean, flat.mean(dim=1))
        torch.testing.assert_close(seen.var, (flat - flat.mean(dim=1, keepdim=True)).square().mean(dim=1), rtol=1e-4, atol=1e-6)
        assert torch.equal(stored.mean, layer.running_mean)
        assert torch.equal(stored.var, layer.running_var)


@pytest.mark.parametrize(("arch", "count"), [("resnet18", 20), ("resnet34", 36), ("wrn_16_1", 13), ("wrn_40_2", 37)])
def test_the_published_networks_have_as_many_recorded_layers_as_batch_norms(arch: str, count: int) -> None:
    network = build_model(arch, num_classes=10, channels=3).eval()
    recorder = StatisticsRecorder(network)
    with torch.no_grad():
        _, observed = recorder.observe(network, torch.randn(2, 3, 8, 8))
    assert len(recorder.stored) == len(observed) == count


@pytest.mark.parametrize("memory_format", [torch.contiguous_format, torch.channels_last])
@pytest.mark.parametrize(("dtype", "rtol"), [(torch.float64, 1e-12), (torch.float32, 1e-5), (torch.bfloat16, 1e-4)])
def test_statistics_are_those_of_the_definition_in_every_precision_and_layout(dtype, rtol: float, memory_format) -> None:
    x = (3.0 * torch.randn(16, 5, 12, 12, generator=torch.Generator().manual_seed(0)) + 2.0).to(dtype)
    observed = channel_statistics(x.contiguous(memory_format=memory_format))
    var, mean = torch.var_mean(x.double(), dim=(0, 2, 3), correction=0)
    torch.testing.assert_close(observed.mean.double(), mean, rtol=rtol, atol=0.0)
    torch.testing.assert_close(observed.var.double(), var, rtol=rtol, atol=0.0)
    assert observed.var.dtype == (torch.float64 if dtype == torch.float64 else torch.float32)


def test_the_gradient_of_statistics_is_their_derivative() -> None:
    x = torch.randn(3, 4, 5, 5, dtype=torch.float64, generator=torch.Generator().manual_seed(0), requires_grad=True)
    assert torch.autograd.gradcheck(channel_statistics, (x,))
    assert torch.autograd.gradcheck(channel_statistics, (x.contiguous(memory_format=torch.channels_last),))


def test_statistics_carry_gradients_to_the_images_and_none_to_the_stored_values(network) -> None:
    x = images().requires_grad_()
    recorder = StatisticsRecorder(network)
    _, observed = recorder.observe(network, x)
    sum(seen.mean.sum() + seen.var.sum() for seen in observed).backward()
    assert x.grad.abs().max() > 0
    assert not any(kept.mean.requires_grad or kept.var.requires_grad for kept in recorder.stored)


def test_nothing_is_recorded_but_what_is_observed(network) -> None:
    recorder = StatisticsRecorder(network)
    _, observed = recorder.observe(network, images())
    seen = len(observed)
    network(images())
    assert len(observed) == seen

    def breaks(x: torch.Tensor) -> None:
        network(x)
        raise RuntimeError("half way")

    with pytest.raises(RuntimeError, match="half way"):
        recorder.observe(breaks, images())
    network(images())
    _, again = recorder.observe(network, images())
    assert len(again) == seen


def test_the_answer_of_an_observed_pass_is_that_of_any_other(network) -> None:
    answer, _ = StatisticsRecorder(network).observe(network, images())
    assert torch.equal(answer.logits, network(images()).logits)


def test_statistics_are_float32_under_autocast(network) -> None:
    recorder = StatisticsRecorder(network)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        _, observed = recorder.observe(network, images())
    assert {tensor.dtype for seen in observed for tensor in seen} == {torch.float32}


@pytest.mark.parametrize(
    ("network", "message"),
    [(nn.Conv2d(1, 1, 1), "no BatchNorm2d"), (nn.BatchNorm2d(2, track_running_stats=False), "keeps no running statistics")],
)
def test_a_teacher_without_usable_batch_norms_is_refused_with_the_way_out(network: nn.Module, message: str) -> None:
    with pytest.raises(ConfigError, match=rf"{message}.*weights.batch_statistics must be 0"):
        StatisticsRecorder(network)
