import pytest
import torch
from torch import nn

from cpsc.device import autocast, place, resolve_device, resolve_precision
from cpsc.errors import ConfigError

CPU, CUDA = torch.device("cpu"), torch.device("cuda")


@pytest.mark.parametrize(("available", "expected"), [(True, "cuda"), (False, "cpu")])
def test_auto_is_the_gpu_where_there_is_one(available: bool, expected: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: available)
    assert resolve_device("auto") == torch.device(expected)


@pytest.mark.parametrize("name", ["cuda", "cuda:0"])
def test_an_absent_gpu_is_refused_and_not_replaced_by_the_cpu(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    with pytest.raises(ConfigError, match=f"device '{name}': no GPU is visible"):
        resolve_device(name)


def test_named_devices_are_taken_as_they_are_and_unknown_ones_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    assert resolve_device("cpu") == CPU
    assert resolve_device("cuda:1") == torch.device("cuda", 1)
    with pytest.raises(ConfigError, match="device 'gpu': unknown, use auto, cpu, cuda or cuda:<index>"):
        resolve_device("gpu")


@pytest.mark.parametrize(
    ("capability", "has_bf16", "expected"),
    [("AVX512", True, "bf16"), ("AVX512", False, "fp32"), ("AVX2", True, "fp32"), ("DEFAULT", False, "fp32")],
)
def test_auto_precision_on_a_cpu_is_bf16_only_where_it_is_multiplied_natively(
    capability: str, has_bf16: bool, expected: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(torch.backends.cpu, "get_cpu_capability", lambda: capability)
    monkeypatch.setattr(torch.cpu, "_is_avx512_bf16_supported", lambda: has_bf16)
    assert resolve_precision("auto", CPU) == expected


@pytest.mark.parametrize(("has_bf16", "expected"), [(True, "bf16"), (False, "fp32")])
def test_auto_precision_on_a_gpu_does_not_count_emulation(has_bf16: bool, expected: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_bf16_supported", lambda *, including_emulation: has_bf16 or including_emulation)
    assert resolve_precision("auto", CUDA) == expected


def test_fp16_needs_a_gpu_and_other_precisions_are_taken_as_they_are() -> None:
    with pytest.raises(ConfigError, match="precision 'fp16' needs a GPU"):
        resolve_precision("fp16", CPU)
    assert resolve_precision("fp16", CUDA) == "fp16"
    assert [resolve_precision(name, CPU) for name in ("fp32", "bf16")] == ["fp32", "bf16"]


@pytest.mark.parametrize(("precision", "dtype"), [("fp32", torch.float32), ("bf16", torch.bfloat16)])
def test_convolutions_run_in_the_precision_asked_for_and_contexts_can_be_entered_again(precision, dtype) -> None:
    layer, factory = nn.Conv2d(1, 2, 3), autocast(precision, CPU)
    for _ in range(2):
        with factory():
            assert layer(torch.zeros(1, 1, 4, 4)).dtype == dtype
    assert layer(torch.zeros(1, 1, 4, 4)).dtype == torch.float32


def test_placed_networks_have_channels_last_convolutions_with_the_same_values() -> None:
    torch.manual_seed(0)
    network = nn.Sequential(nn.Conv2d(3, 4, 3), nn.Flatten(), nn.Linear(16, 2))
    before = [p.detach().clone() for p in network.parameters()]
    placed = place(network, CPU)
    assert placed[0].weight.is_contiguous(memory_format=torch.channels_last)
    assert not placed[0].weight.is_contiguous()
    assert all(torch.equal(a, b) for a, b in zip(before, placed.parameters(), strict=True))
