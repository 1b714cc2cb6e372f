"""Hints: intermediate features of a network as targets for a smaller one (Romero et al., ICLR 2015, arXiv:1412.6550)."""

from collections.abc import Sequence

import torch
from torch import Tensor


def hint_distance(student: Sequence[Tensor], teacher: Sequence[Tensor]) -> Tensor:
    """Sum over stages of the mean squared difference of features [B, K, H, W], in units of the teacher's variance -> [B].

    Eq. 3 without a regressor: the channels of a student that was reconstructed from its teacher are a subset of the teacher's.
    """
    pairs = list(zip(student, teacher, strict=True))
    scaled = [(own - wanted).square().flatten(1).mean(dim=1) / wanted.var().clamp_min(1e-8) for own, wanted in pairs]
    return torch.stack(scaled).sum(dim=0)
