"""Attention transfer: where in the image a network's features are strong (Zagoruyko and Komodakis 2017, arXiv:1612.03928)."""

from collections.abc import Sequence

import torch
from torch import Tensor
from torch.nn import functional as F


def attention_map(features: Tensor) -> Tensor:
    """Mean over channels of the squared features [B, K, H, W], as a unit vector per sample -> [B, H * W]."""
    return F.normalize(features.square().mean(dim=1).flatten(1), dim=1)


def attention_distance(student_maps: Sequence[Tensor], teacher_maps: Sequence[Tensor]) -> Tensor:
    """Sum over stages of the mean squared difference of attention maps -> [B].

    ZSKT, Micaelli and Storkey 2019 (arXiv:1905.09768), eq. 2.
    """
    pairs = zip(student_maps, teacher_maps, strict=True)
    return torch.stack([(student - teacher).square().mean(dim=1) for student, teacher in pairs]).sum(dim=0)
