"""Borders of maps, which tell without data how large the maps were that a network's batch norms saw in training.

A convolution that pads with zeros answers otherwise at the border of a map than inside it. The mean that the batch norm behind
it has stored lies between the two by the share of the border, which a map of s x s pixels has: 1 - (1 - 2/s)^2. One pass of
noise shows what the two are for each channel, and the stored means of all channels then tell the share, and with it the size.
"""

import math
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from cpsc.statistics import ChannelStatistics, keeps_statistics

SMALLEST_MAP = 4
"""Without an inside there is nothing to compare its border with."""
WINDOW = 2
"""Layers of one size in a row, whose shares are averaged."""
OWN_ERROR, BETWEEN_LAYERS = 0.03, 0.05
"""Least relative error of a layer's share, and by how much those of right networks scatter beyond it."""
LEAST_SHARE = 0.05
"""Of the network's own share; noise may tell one that is negative."""
Stored = Callable[[nn.BatchNorm2d], ChannelStatistics]


class Borders(NamedTuple):
    """What a run of layers tells of the size of their maps, as a factor of the border's share that they have here."""

    layer: str
    """The first of them."""
    size: int
    """Of their maps here."""
    log_factor: float
    """0 where the sizes are the same; above it the maps were smaller."""


class _Share(NamedTuple):
    layer: str
    size: int
    log_factor: float
    error: float


def image_norms(network: nn.Module) -> dict[str, nn.BatchNorm2d]:
    """The batch norms of maps that keep statistics, by name, in the order of declaration."""
    norms = {name: layer for name, layer in network.named_modules() if isinstance(layer, nn.BatchNorm2d)}
    return {name: layer for name, layer in norms.items() if keeps_statistics(layer)}


@torch.no_grad()
def tell_borders(network: nn.Module, images: Tensor, stored: Stored) -> list[Borders]:
    """Of every run of `WINDOW` layers among the deepest third of those that noise can tell of.

    The first ones tell of the images as well: where those have a border of their own, such as black, by far another share.

    Each batch norm normalises by the batch, so that every layer sees what the one before has stored, whatever the images.
    """
    found = _tell_shares(network, images, stored)
    runs: list[list[_Share]] = []
    for share in found[2 * len(found) // 3 :]:
        if runs and runs[-1][-1].size == share.size:
            runs[-1].append(share)
        else:
            runs.append([share])
    return [_average(run[start : start + WINDOW]) for run in runs for start in range(max(1, len(run) - WINDOW + 1)) if len(run) > 1]


def _average(window: Sequence[_Share]) -> Borders:
    weights = [1.0 / (share.error**2 + BETWEEN_LAYERS**2) for share in window]
    total = sum(weight * share.log_factor for weight, share in zip(weights, window, strict=True))
    return Borders(window[0].layer, window[0].size, total / sum(weights))


def _tell_shares(network: nn.Module, images: Tensor, stored: Stored) -> list[_Share]:
    """In the order in which the layers run."""
    found: list[_Share] = []
    unpadded: list[Tensor] = []  # held, for a tensor is known by its identity

    def note_conv(layer: nn.Module, _inputs: Any, output: Any) -> None:
        assert isinstance(layer, nn.Conv2d)
        if layer.kernel_size == (1, 1):  # tells of no border, and in a linear network its mean fits whatever the size
            unpadded.append(output)

    def note_norm(name: str) -> Callable[..., Tensor]:
        def hook(layer: nn.Module, inputs: tuple[Tensor, ...], _output: Any) -> Tensor:
            assert isinstance(layer, nn.BatchNorm2d)
            x = inputs[0]
            if min(x.shape[2:]) >= SMALLEST_MAP and not any(x is output for output in unpadded):
                found.append(_tell_share(name, x, stored(layer), layer.eps))
            return F.batch_norm(x, None, None, layer.weight, layer.bias, training=True, eps=layer.eps)

        return hook

    with ExitStack() as stack:
        for layer in network.modules():
            if isinstance(layer, nn.Conv2d):
                stack.callback(layer.register_forward_hook(note_conv).remove)
        for name, norm in image_norms(network).items():
            stack.callback(norm.register_forward_hook(note_norm(name)).remove)
        network(images)
    names = [share.layer for share in found]
    return [share for share in found if names.count(share.layer) == 1]  # what runs twice has stored a mixture


def _tell_share(name: str, x: Tensor, kept: ChannelStatistics, eps: float) -> _Share:
    """By least squares over the channels: stored mean = inside + share * (border - inside), in stored deviations."""
    size = min(x.shape[2:])
    share = 1.0 - (1.0 - 2.0 / x.shape[2]) * (1.0 - 2.0 / x.shape[3])
    deviation = (kept.var + eps).sqrt()
    inside = x[:, :, 1:-1, 1:-1].mean(dim=(0, 2, 3))
    step = (x.mean(dim=(0, 2, 3)) - inside) / share / deviation
    wanted = (kept.mean - inside) / deviation
    length = step.square().sum().clamp_min(torch.finfo(step.dtype).tiny)
    told = (wanted * step).sum() / length
    error = ((wanted - told * step).square().mean() / length).sqrt()
    factor = max(told.item() / share, LEAST_SHARE)
    return _Share(name, size, math.log(factor), max(error.item() / share, OWN_ERROR) / factor)
