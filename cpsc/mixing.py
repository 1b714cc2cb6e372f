"""Mixes other images into those that a student learns from: blends of two of them, and dead leaves, which need no data."""

import torch
from torch import Tensor

from cpsc.config import MixingConfig
from cpsc.dead_leaves import dead_leaves
from cpsc.teacher import Teacher

UNKNOWN = -1
"""The label of an image that was not made for any class."""


class Mixing:
    """Changes some images of each batch, so that the teacher answers on more than the generator's images.

    A share `config.blended` of them is blended with a neighbour in the batch, at a uniformly drawn ratio: mixup (Zhang et al.
    2018, arXiv:1710.09412), with the teacher's own answer to the blend in place of blended labels (Beyer et al. 2022,
    arXiv:2106.05237). Then a share `config.dead_leaves` of the batch is replaced by dead leaves.
    """

    def __init__(self, config: MixingConfig, teacher: Teacher, *, rng: torch.Generator) -> None:
        self._config, self._teacher, self._rng = config, teacher, rng

    def mixed(self, images: Tensor, labels: Tensor | None) -> tuple[Tensor, Tensor | None]:
        """Mix `images` [B, K, H, W], normalised for the teacher. Labels [B], if any, become `UNKNOWN` where an image changed."""
        shares, is_changed = self._shares(len(images))
        column = shares.to(images.dtype)[:, None, None, None]
        images = torch.where(column < 1, column * images + (1 - column) * images.roll(1, 0), images)
        if number := round(self._config.dead_leaves * len(images)):
            leaves = dead_leaves(number, channels=images.shape[1], image_size=images.shape[-1], rng=self._rng)
            images = torch.cat([images[:-number], self._teacher.normalisation.from_unit(leaves).to(images.dtype)])
            is_changed[-number:] = True
        return images, None if labels is None else labels.masked_fill(is_changed, UNKNOWN)

    def _shares(self, number: int) -> tuple[Tensor, Tensor]:
        """For each image, its own share in the blend (1 if it is not blended), and whether it is blended."""
        draws = torch.rand(2, number, device=self._rng.device, generator=self._rng)
        is_blend = draws[0] < self._config.blended
        return torch.where(is_blend, draws[1], torch.ones_like(draws[1])), is_blend
