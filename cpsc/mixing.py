"""What is mixed into the images that a student learns from: blends of two of them, and images of no data."""

import torch
from torch import Tensor

from cpsc.config import MixingConfig
from cpsc.dead_leaves import dead_leaves
from cpsc.teacher import Teacher

UNKNOWN = -1
"""The label of an image that was made for no class."""


class Mixing:
    """Changes some images of each batch, so that the teacher is asked about more than its generator makes.

    `config.blended` of them are blended with the next one of the batch, at a uniform share: mixup (Zhang et al. 2018,
    arXiv:1710.09412), with the teacher's own answer to the blend in place of blended labels (Beyer et al. 2022,
    arXiv:2106.05237). Then `config.dead_leaves` of the batch are dead leaves instead.
    """

    def __init__(self, config: MixingConfig, teacher: Teacher, *, rng: torch.Generator) -> None:
        self._config, self._teacher, self._rng = config, teacher, rng

    def mixed(self, images: Tensor, labels: Tensor | None) -> tuple[Tensor, Tensor | None]:
        """Of `images` [B, K, H, W], in the teacher's space, and their labels [B], if they have any: `UNKNOWN` where changed."""
        shares, is_changed = self._shares(len(images))
        column = shares.to(images.dtype)[:, None, None, None]
        images = torch.where(column < 1, column * images + (1 - column) * images.roll(1, 0), images)
        if number := round(self._config.dead_leaves * len(images)):
            leaves = dead_leaves(number, channels=images.shape[1], image_size=images.shape[-1], rng=self._rng)
            images = torch.cat([images[:-number], self._teacher.normalisation.from_unit(leaves).to(images.dtype)])
            is_changed[-number:] = True
        return images, None if labels is None else labels.masked_fill(is_changed, UNKNOWN)

    def _shares(self, number: int) -> tuple[Tensor, Tensor]:
        """Of each image itself in its blend, and whether it is one."""
        draws = torch.rand(2, number, device=self._rng.device, generator=self._rng)
        is_blend = draws[0] < self._config.blended
        return torch.where(is_blend, draws[1], torch.ones_like(draws[1])), is_blend
