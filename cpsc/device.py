"""Device and precision of a run."""

import resource
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, nullcontext

import torch
from torch import Tensor, nn

from cpsc.config import Precision
from cpsc.errors import ConfigError

KILOBYTE = 1024

DTYPES = {"bf16": torch.bfloat16, "fp16": torch.float16}


def resolve_device(name: str) -> torch.device:
    """`auto` is CUDA if available. Asking for a GPU that does not exist is a ConfigError, not a silent fallback."""
    if name == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        device = torch.device(name)
    except RuntimeError as error:
        raise ConfigError(f"device {name!r}: unknown, use auto, cpu, cuda or cuda:<index>") from error
    if device.type == "cuda" and not torch.cuda.is_available():
        raise ConfigError(f"device {name!r}: no GPU is visible to torch {torch.__version__}, use cpu")
    return device


def resolve_precision(precision: Precision, device: torch.device) -> Precision:
    """Resolve `auto` for `device`; fp16 needs a GPU (its gradient scaling is not available on a CPU here)."""
    if precision == "auto":
        return "bf16" if _multiplies_bf16(device) else "fp32"
    if precision == "fp16" and device.type != "cuda":
        raise ConfigError("precision 'fp16' needs a GPU, use bf16, fp32 or auto")
    return precision


def precise(values: Tensor) -> Tensor:
    """`values` in the precision that losses are computed in: float32, or float64 if they already are."""
    return values if values.dtype == torch.float64 else values.float()


def place(network: nn.Module, device: torch.device) -> nn.Module:
    """`network` on `device`, with channels-last convolution weights, which convolutions use on both kinds of device."""
    return network.to(device).to(memory_format=torch.channels_last)  # type: ignore[call-overload]


def cast_weights(network: nn.Module, dtype: torch.dtype) -> nn.Module:
    """The frozen `network`, whose weights that autocast would cast to `dtype` at every pass are cast for good: the same numbers."""
    for _, layer in _cast_layers(network):
        layer.to(dtype)
    return network


def cast_copies(network: nn.Module, dtype: torch.dtype) -> dict[str, Tensor]:
    """Cast copies of the same weights, by parameter name as for ``functional_call``, of a `network` that keeps training."""
    layers = _cast_layers(network)
    return {f"{name}.{key}": weight.detach().to(dtype) for name, layer in layers for key, weight in layer.named_parameters()}


def peak_memory(device: torch.device) -> int:
    """Peak memory in bytes so far: of the device's allocator, or, on a CPU, of this process, including other trials in it."""
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device)
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * KILOBYTE


def autocast(precision: Precision, device: torch.device) -> Callable[[], AbstractContextManager[object]]:
    """A function that creates contexts in which convolutions and matrix products run in `precision`."""
    if precision not in DTYPES:
        return nullcontext
    return lambda: torch.autocast(device.type, dtype=DTYPES[precision])


def _cast_layers(network: nn.Module) -> Iterator[tuple[str, nn.Module]]:
    for name, module in network.named_modules():
        if type(module) in (nn.Conv2d, nn.Linear):  # a subclass may use its weights in another way first
            yield name, module


def _multiplies_bf16(device: torch.device) -> bool:
    if device.type == "cuda":
        return torch.cuda.is_bf16_supported(including_emulation=False)
    # Without these instructions bf16 on a CPU is emulated and slower than float32.
    capabilities = torch.backends.cpu.get_cpu_capability()
    return torch.cpu._is_avx512_bf16_supported() if capabilities.startswith("AVX512") else False
