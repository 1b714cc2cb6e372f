"""What passes through the layers of a frozen network, recorded inside a ``with`` block."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any, NamedTuple, TypeVar

import torch
from torch import Tensor, nn
from torch.autograd.function import FunctionCtx, once_differentiable
from torch.nn import functional as F

from cpsc.errors import ConfigError

T = TypeVar("T")


class ChannelStatistics(NamedTuple):
    """Mean and biased variance per channel, [K] each, float32."""

    mean: Tensor
    var: Tensor


@contextmanager
def recorded(layers: Sequence[nn.Module], look: Callable[[Tensor], T], *, outputs: bool = False) -> Iterator[list[T]]:
    """Yields a list that holds, after one forward pass, what `look` makes of each layer's input (or output), in network order.

    Hooks record, functions compare. Several forward passes in one block would mix, so each block is for one pass.
    """
    seen: list[T] = []
    if outputs:
        handles = [layer.register_forward_hook(lambda _layer, _inputs, out: seen.append(look(out))) for layer in layers]
    else:
        handles = [layer.register_forward_pre_hook(lambda _layer, inputs: seen.append(look(inputs[0]))) for layer in layers]
    try:
        yield seen
    finally:
        for handle in handles:
            handle.remove()


def batch_norm_layers(network: nn.Module, *, weight: str = "weights.batch_statistics") -> list[nn.BatchNorm2d]:
    """The network's batch norms, which a term of `weight` needs. ConfigError where it has none, or none with statistics."""
    layers = [module for module in network.modules() if isinstance(module, nn.BatchNorm2d)]
    if not layers:
        raise ConfigError(f"teacher has no BatchNorm2d layer: {weight} must be 0 for it")
    if any(layer.running_mean is None for layer in layers):
        raise ConfigError(f"teacher's batch norm keeps no running statistics: {weight} must be 0 for it")
    return layers


def channel_means(activations: Tensor) -> Tensor:
    """[B, K, H, W] -> [B, K], float32."""
    return activations.float().mean(dim=(2, 3))


class StatisticsRecorder:
    """Looks at what enters each batch norm of a frozen network, only while recording; `losses.statistics` holds the equations.

    Its hooks stay on the network, where a compiled forward pass has them built in: a network has one recorder, for all its users.
    """

    def __init__(self, network: nn.Module) -> None:
        self.layers = batch_norm_layers(network)
        self.stored = [ChannelStatistics(_stored(layer.running_mean), _stored(layer.running_var)) for layer in self.layers]
        self._seen: list[ChannelStatistics] = []
        self._is_recording = False
        for layer in self.layers:
            layer.register_forward_pre_hook(self._look)

    def observe(self, network: Callable[[Tensor], T], images: Tensor) -> tuple[T, list[ChannelStatistics]]:
        """What `network`, which runs the recorder's own, answers; and the statistics of each layer's input in network order."""
        self._seen, self._is_recording = [], True
        try:
            return network(images), self._seen
        finally:
            self._is_recording = False

    def _look(self, layer: nn.Module, inputs: tuple[Tensor, ...]) -> None:
        del layer
        if self._is_recording:
            self._seen.append(channel_statistics(inputs[0]))


def channel_statistics(activations: Tensor) -> ChannelStatistics:
    """[B, K, H, W] of any precision -> mean and biased variance of each channel, in float32 or better; differentiable."""
    if torch.compiler.is_compiling():  # fused with what comes before and after, and so without the faults named below
        var, mean = torch.var_mean(activations.float(), dim=(0, 2, 3), correction=0)
        return ChannelStatistics(mean, var)
    return ChannelStatistics(*_MeanAndVariance.apply(activations))  # type: ignore[no-untyped-call]


class _MeanAndVariance(torch.autograd.Function):
    """In one pass each way over activations that stay in their own precision.

    Both are batch norm's kernels at other work: ``torch.var_mean`` takes twenty times as long on channels-last activations,
    and would first copy half precision to float32, for its sums over batch and pixels lose digits otherwise.
    """

    @staticmethod
    def forward(ctx: FunctionCtx, activations: Tensor) -> tuple[Tensor, Tensor]:
        precise = torch.promote_types(activations.dtype, torch.float32)
        running = activations.new_zeros(2, activations.shape[1], dtype=precise)  # they decide the precision of the sums
        mean, var = torch.batch_norm_update_stats(activations, running[0], running[1], 0.0)
        ctx.save_for_backward(activations, mean)
        return mean, var

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *gradients: Tensor) -> Tensor:
        activations, mean = ctx.saved_tensors
        of_mean, of_var = gradients
        count = activations.numel() / len(mean)
        # (x - mean) 2 dvar / N + dmean / N is a batch norm with these in the places of its statistics, scale and shift.
        one = torch.ones_like(mean)
        return F.batch_norm(activations, mean, one, 2.0 / count * of_var, of_mean / count, training=False, eps=0.0)


def _stored(buffer: Tensor | None) -> Tensor:
    assert buffer is not None  # batch_norm_layers has looked
    return buffer.detach().float()
