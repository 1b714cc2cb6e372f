"""Least squares on activations: which channels explain all of them, and a layer's weights for given outputs."""

from collections.abc import Iterator, Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional as F

MOST_ROWS = 131_072
"""Largest number of positions in the images on which a layer is fitted and its channels are chosen."""
CHUNK = 64
"""Images whose patches are in memory at once."""
RIDGE = 1e-3
"""Ridge regularisation, as a fraction of the inputs' mean square."""


def most_explaining(covariances: Sequence[Tensor], uses: Sequence[Tensor], number: int) -> Tensor:
    """Indices, in ascending order, of the `number` channels that explain most of all channels by least squares.

    `covariances` [C, C]: of the channels at each layer that reads them. `uses` [C]: how strongly that layer reads each channel. The
    choice is greedy, and all readers count equally, whatever their scale.
    """
    device = covariances[0].device
    scaled = [use.double()[:, None] * cov.double() * use.double() for cov, use in zip(covariances, uses, strict=True)]
    left = [one / one.trace().clamp_min(torch.finfo(torch.float64).tiny) for one in scaled]
    chosen: list[int] = []
    for _ in range(number):
        gains = torch.stack([_explained(one) for one in left]).sum(dim=0)
        gains[chosen] = -1.0
        best = int(gains.argmax())
        chosen.append(best)
        left = [one - torch.outer(one[:, best], one[best]) / _positive(one[best, best]) for one in left]
    return torch.tensor(sorted(chosen), device=device)


def _explained(covariance: Tensor) -> Tensor:
    """Variance of all channels that each channel explains, [C]."""
    return covariance.square().sum(dim=0) / _positive(covariance.diagonal())


def _positive(variance: Tensor) -> Tensor:
    return variance.clamp_min(1e-12)


def fit(layer: nn.Module, inputs: Tensor, wanted: Tensor) -> None:
    """Set the weights of `layer`, a convolution or a linear layer, so that it maps `inputs` to `wanted` by least squares.

    `inputs`: [N, K, H, W] or [N, K]; `wanted`: the outputs, with the same number of dimensions.
    """
    gram = rest = None
    for patches, targets in _rows(layer, inputs, wanted):
        rows = patches if layer.bias is None else torch.cat([patches, patches.new_ones(len(patches), 1)], dim=1)
        own, cross = (rows.T @ rows).double(), (rows.T @ targets).double()
        gram, rest = (own, cross) if gram is None or rest is None else (gram + own, rest + cross)
    assert gram is not None
    assert rest is not None
    gram.diagonal().add_(RIDGE * gram.diagonal().mean())
    found = torch.linalg.solve(gram, rest).T.to(inputs.dtype)
    weight, bias = layer.weight, layer.bias
    assert isinstance(weight, Tensor)
    if isinstance(bias, Tensor):
        bias.copy_(found[:, -1])
        found = found[:, :-1]
    weight.copy_(found.reshape(weight.shape))


def _rows(layer: nn.Module, inputs: Tensor, wanted: Tensor) -> Iterator[tuple[Tensor, Tensor]]:
    """The inputs of `layer` for each output position and the targets there, some positions at a time."""
    if isinstance(layer, nn.Linear):
        yield inputs, wanted
        return
    assert isinstance(layer, nn.Conv2d)
    every = -(-wanted[:, 0].numel() // MOST_ROWS)
    for some, targets in zip(inputs.split(CHUNK), wanted.split(CHUNK), strict=True):
        patches = F.unfold(some, layer.kernel_size, dilation=layer.dilation, padding=_padding(layer), stride=layer.stride)
        yield patches.transpose(1, 2).flatten(0, 1)[::every], targets.flatten(2).transpose(1, 2).flatten(0, 1)[::every]


def _padding(layer: nn.Conv2d) -> tuple[int, ...]:
    assert not isinstance(layer.padding, str)
    return layer.padding


def covariance(activations: Tensor) -> Tensor:
    """[N, K, H, W] or [N, K] -> covariance [K, K], over some of the positions."""
    rows = activations.transpose(0, 1).flatten(1)
    rows = rows[:, :: -(-rows.shape[1] // MOST_ROWS)]
    centred = rows - rows.mean(dim=1, keepdim=True)
    return centred @ centred.T / rows.shape[1]
