"""Differentiable random views of a batch of images [B, K, H, W]. Crops and mirror images are in `data.augment`."""

import math

import torch
from torch import Tensor
from torch.nn import functional as F

MIN_AREA = 0.25
"""Smallest share of the area in CMI's local views (Fang et al. 2021, arXiv:2105.08584)."""
ASPECT_RATIO = (3 / 4, 4 / 3)


def jitter(images: Tensor, *, pixels: int, flip: bool, rng: torch.Generator) -> Tensor:
    """The whole batch shifted circularly by up to `pixels` and, with `flip`, mirrored with probability 1/2.

    DeepInversion, Yin et al. 2020 (arXiv:1912.08795), sec. 4.1.
    """
    # Drawn on the CPU, because reading the shift back from a GPU would make every step wait.
    down, right = torch.randint(-pixels, pixels + 1, (2,), generator=rng).tolist()
    if flip and torch.rand((), generator=rng).item() < 0.5:
        images = images.flip(3)
    return torch.roll(images, (down, right), dims=(2, 3)) if pixels else images


def random_resized_crop(images: Tensor, *, mirror: bool, rng: torch.Generator) -> Tensor:
    """Crop a quarter to all of each image's area at an aspect ratio of 3:4 to 4:3, stretched to full size.

    With `mirror`, each crop is mirrored with probability 1/2.
    """
    size, device = len(images), images.device
    draws = torch.rand(5, size, device=device, generator=rng)
    area = MIN_AREA + (1 - MIN_AREA) * draws[0]
    low, high = (math.log(ratio) for ratio in ASPECT_RATIO)
    ratio = (low + (high - low) * draws[1]).exp().sqrt()
    width, height = (area.sqrt() * ratio).clamp(max=1.0), (area.sqrt() / ratio).clamp(max=1.0)
    # Centres in [-1, 1] coordinates, chosen so that the crop stays within the image.
    x, y = (1 - width) * (2 * draws[2] - 1), (1 - height) * (2 * draws[3] - 1)
    sign = torch.where(draws[4] < 0.5, -1.0, 1.0) if mirror else torch.ones_like(x)
    zero = torch.zeros_like(x)
    transforms = torch.stack([torch.stack([sign * width, zero, x], 1), torch.stack([zero, height, y], 1)], 1)
    grid = F.affine_grid(transforms, list(images.shape), align_corners=False)
    return F.grid_sample(images, grid, mode="bilinear", padding_mode="reflection", align_corners=False)
