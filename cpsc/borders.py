"""Borders of maps, which reveal without data how large the maps were that a network's batch norms saw in training.

The output of a zero-padded convolution is different at the border of a map than inside it. The mean that the following batch norm
has stored lies between the two, weighted by the share of border pixels, which is 1 - (1 - 2/s)^2 for a map of s x s pixels. One
pass of noise gives both values for each channel; the stored means of all channels then give the share, and so the size.
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
"""Smallest side of a map, because without an inside there is nothing to compare the border with."""
WINDOW = 2
"""Number of consecutive layers with maps of one size whose shares are averaged."""
OWN_ERROR, BETWEEN_LAYERS = 0.03, 0.05
"""Smallest relative error of a layer's share, and how much the shares of right networks scatter in addition."""
LEAST_SHARE = 0.05
"""Lower limit of the estimated share, as a fraction of the network's own; with noise the estimate may be negative."""
Stored = Callable[[nn.BatchNorm2d], ChannelStatistics]


class Borders(NamedTuple):
    """What consecutive layers reveal about the size of their maps: a factor of the share of border pixels that they have here."""

    layer: str
    """The first of the layers."""
    size: int
    """Size of their maps here."""
    log_factor: float
    """Logarithm of the factor: 0 if the sizes are the same; positive if the maps were smaller in training."""


class _Share(NamedTuple):
    layer: str
    size: int
    log_factor: float
    error: float


def image_norms(network: nn.Module) -> dict[str, nn.BatchNorm2d]:
    """The 2d batch norms that keep statistics, by name, in the order of declaration."""
    norms = {name: layer for name, layer in network.named_modules() if isinstance(layer, nn.BatchNorm2d)}
    return {name: layer for name, layer in norms.items() if keeps_statistics(layer)}


@torch.no_grad()
def tell_borders(network: nn.Module, images: Tensor, stored: Stored) -> list[Borders]:
    """Borders of every `WINDOW` consecutive layers among the deepest third of those that noise can be used for.

    The first layers also reflect the training images: if these have a border of their own, such as black, the share is far off.

    During the pass each batch norm normalises by the batch, so that every layer sees what the previous one has stored, whatever
    the images.
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
    """Shares of the layers, in the order in which they run."""
    found: list[_Share] = []
    unpadded: list[Tensor] = []  # kept alive, because tensors are compared by identity

    def note_conv(layer: nn.Module, _inputs: Any, output: Any) -> None:
        assert isinstance(layer, nn.Conv2d)
        if layer.kernel_size == (1, 1):  # has no border effect, and in a linear network its mean fits any size
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
    return [share for share in found if names.count(share.layer) == 1]  # a layer that runs twice has stored a mixture


def _tell_share(name: str, x: Tensor, kept: ChannelStatistics, eps: float) -> _Share:
    """Least squares over the channels: stored mean = inside + share * (border - inside), in units of the stored deviations."""
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
