"""Confidence losses: on images that look natural to it, a teacher is confident, strongly activated and balanced over classes."""

import math

from torch import Tensor
from torch.nn import functional as F

PROBABILITY_FLOOR = 1e-12
"""Without it, the gradient of the entropy would grow without bound as a class vanishes, and its value would be 0 times -inf."""


def one_hot_loss(logits: Tensor) -> Tensor:
    """Cross-entropy of `logits` [B, C] with their own largest entry -> [B], nats.

    DAFL, Chen et al. 2019 (arXiv:1904.01186), eq. 2.
    """
    return F.cross_entropy(logits, logits.argmax(dim=1), reduction="none")


def class_imbalance(logits: Tensor, *, base: float = math.e) -> Tensor:
    """Sum over classes of p log p, p the batch mean of softmax(logits [B, C]) -> []. DAFL eq. 4: the negative entropy.

    The minimum, -log C, is reached if the batch has all classes equally. `base` of the logarithm: the published code uses 10.
    """
    mean = logits.softmax(dim=1).mean(dim=0).clamp_min(PROBABILITY_FLOOR)
    return (mean * mean.log()).sum() / math.log(base)


def negative_activation(features: Tensor) -> Tensor:
    """Minus the mean magnitude of the penultimate `features` [B, d] -> [B]. DAFL eq. 3."""
    return -features.abs().mean(dim=1)
