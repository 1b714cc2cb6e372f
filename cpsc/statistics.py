"""What passes through the layers of a frozen network, recorded inside a ``with`` block."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from typing import NamedTuple, TypeVar

import torch
from torch import Tensor, nn

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
    """Looks at what enters each batch norm of a frozen network, only while recording; `losses.statistics` holds the equations."""

    def __init__(self, network: nn.Module) -> None:
        self.layers = batch_norm_layers(network)
        self.stored = [ChannelStatistics(_stored(layer.running_mean), _stored(layer.running_var)) for layer in self.layers]

    def recording(self) -> AbstractContextManager[list[ChannelStatistics]]:
        """A block that yields, after one forward pass, the statistics of each layer's input in network order."""
        return recorded(self.layers, _statistics)


def _statistics(activations: Tensor) -> ChannelStatistics:
    # In half precision the sums over batch and pixels would lose digits.
    var, mean = torch.var_mean(activations.float(), dim=(0, 2, 3), correction=0)
    return ChannelStatistics(mean, var)


def _stored(buffer: Tensor | None) -> Tensor:
    assert buffer is not None  # batch_norm_layers has looked
    return buffer.detach().float()
