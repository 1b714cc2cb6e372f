"""Confidence losses: a teacher's output on images it finds natural is confident, strongly activated, of all classes alike."""

import math

from torch import Tensor
from torch.nn import functional as F

PROBABILITY_FLOOR = 1e-12
"""The entropy's gradient grows without bound as a class vanishes from the batch, and its value would be 0 times -inf."""


def one_hot_loss(logits: Tensor) -> Tensor:
    """Cross-entropy of `logits` [B, C] with their own largest entry -> [B], nats.

    DAFL, Chen et al. 2019 (arXiv:1904.01186), eq. 2.
    """
    return F.cross_entropy(logits, logits.argmax(dim=1), reduction="none")


def class_imbalance(logits: Tensor, *, base: float = math.e) -> Tensor:
    """Sum over classes of p log p, p the batch mean of softmax(logits [B, C]) -> []. DAFL eq. 4, the entropy with its sign turned.

    Least, -log C, where the batch asks for all classes alike; `base` of the logarithm: the published code takes 10.
    """
    mean = logits.softmax(dim=1).mean(dim=0).clamp_min(PROBABILITY_FLOOR)
    return (mean * mean.log()).sum() / math.log(base)


def negative_activation(features: Tensor) -> Tensor:
    """Minus the mean magnitude of the penultimate `features` [B, d] -> [B]. DAFL eq. 3."""
    return -features.abs().mean(dim=1)
