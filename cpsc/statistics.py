"""Batch-norm statistics of a frozen network's inputs, recorded inside a ``with`` block."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import NamedTuple

import torch
from torch import Tensor, nn

from cpsc.errors import ConfigError


class ChannelStatistics(NamedTuple):
    """Mean and biased variance per channel, [K] each, float32."""

    mean: Tensor
    var: Tensor


class StatisticsRecorder:
    """Looks at what enters each batch norm of a frozen network, only while recording.

    Hooks record, functions compare: `losses.statistics` holds the equation. Several forward passes in
    one block would mix, so each block is for one pass.
    """

    def __init__(self, network: nn.Module) -> None:
        self._layers = [module for module in network.modules() if isinstance(module, nn.BatchNorm2d)]
        if not self._layers:
            raise ConfigError("teacher has no BatchNorm2d layer: weights.batch_statistics must be 0 for it")
        self.stored = [ChannelStatistics(_stored(layer.running_mean), _stored(layer.running_var)) for layer in self._layers]

    @contextmanager
    def recording(self) -> Iterator[list[ChannelStatistics]]:
        """Yields a list that holds, after one forward pass, the statistics of each layer's input in network order."""
        observed: list[ChannelStatistics] = []

        def record(_module: nn.Module, inputs: tuple[Tensor, ...]) -> None:
            activations = inputs[0].float()  # in half precision the sums over batch and pixels lose digits
            var, mean = torch.var_mean(activations, dim=(0, 2, 3), correction=0)
            observed.append(ChannelStatistics(mean, var))

        handles = [layer.register_forward_pre_hook(record) for layer in self._layers]
        try:
            yield observed
        finally:
            for handle in handles:
                handle.remove()


def _stored(buffer: Tensor | None) -> Tensor:
    if buffer is None:
        raise ConfigError("teacher's batch norm keeps no running statistics: weights.batch_statistics must be 0 for it")
    return buffer.detach().float()
