"""Images that need no data: overlapping discs of all sizes, which have the edges and the spectrum of photographs.

The dead leaves model: Lee, Mumford and Huang, IJCV 2001. Networks trained on such images alone learn features of real images:
Baradad et al., NeurIPS 2021 (arXiv:2106.05963).
"""

import torch
from torch import Tensor
from torch.nn import functional as F

NUM_LEAVES = 40
LEAST_RADIUS, LARGEST_RADIUS = 1 / 16, 3 / 4
"""Fractions of the image's side."""
TINT = 0.15
"""Standard deviation of each colour channel around the leaf's grey level."""


def dead_leaves(number: int, *, channels: int, image_size: int, rng: torch.Generator) -> Tensor:
    """[number, channels, image_size, image_size] in [0, 1], on the device of `rng`.

    A leaf's radius r has density r ** -3, which makes an image look the same at every scale (Lee et al., sec. 3). Its grey level
    and its position are uniformly distributed, and every edge is smoothed over three pixels.
    """
    device = rng.device
    images = _colours(number, channels, rng)[..., None, None].expand(-1, -1, image_size, image_size)
    places = (torch.arange(image_size, device=device) + 0.5) / image_size
    fewest = (LEAST_RADIUS / LARGEST_RADIUS) ** 2
    for _ in range(NUM_LEAVES):
        draws = torch.rand(3, number, 1, device=device, generator=rng)
        radius_squared = LEAST_RADIUS**2 / (fewest + (1 - fewest) * draws[0])
        down, right = (places - draws[1]).square(), (places - draws[2]).square()
        covered = down[:, :, None] + right[:, None, :] < radius_squared[:, :, None]
        images = torch.where(covered[:, None], _colours(number, channels, rng)[..., None, None], images)
    return _smoothed(images)


def _colours(number: int, channels: int, rng: torch.Generator) -> Tensor:
    grey = torch.rand(number, 1, device=rng.device, generator=rng)
    return (grey + TINT * torch.randn(number, channels, device=rng.device, generator=rng)).clamp(0.0, 1.0)


def _smoothed(images: Tensor) -> Tensor:
    padded = F.pad(images, (1, 1, 1, 1), mode="replicate")
    return F.avg_pool2d(padded, 3, stride=1)
