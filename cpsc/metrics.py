"""What is measured of a student. Functions of tensors or of curves; no network is trained here."""

import math
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import NamedTuple

import torch
from torch import Tensor, nn

from cpsc.losses.distillation import distillation_kl

EVALUATION_BATCH = 512


@contextmanager
def evaluating(network: nn.Module) -> Iterator[None]:
    """Eval mode and no gradients inside the block; the mode is put back after it."""
    was_training = network.training
    network.eval()
    try:
        with torch.inference_mode():
            yield
    finally:
        network.train(was_training)


def predict(network: nn.Module, images: Tensor) -> Tensor:
    """Logits of `network` on normalised `images` [N, K, H, W], in eval mode and float32 -> [N, C]."""
    with evaluating(network):
        logits = torch.cat([network(batch).logits.float() for batch in images.split(EVALUATION_BATCH)])
    return logits.clone()  # outside, so that it is an ordinary tensor


def accuracy(logits: Tensor, labels: Tensor) -> float:
    """Share of rows of `logits` [N, C] whose largest entry is at `labels` [N]."""
    return (logits.argmax(dim=1) == labels).float().mean().item()


def agreement(student_logits: Tensor, teacher_logits: Tensor) -> float:
    """Share of images on which both networks pick the same class."""
    return accuracy(student_logits, teacher_logits.argmax(dim=1))


def mean_kl(student_logits: Tensor, teacher_logits: Tensor) -> float:
    """Mean KL(teacher || student), nats."""
    return distillation_kl(student_logits, teacher_logits, temperature=1.0).mean().item()


class CurveStatistics(NamedTuple):
    """One accuracy over a run's epochs; mean and standard deviation tell what a blind stop would give.

    PRE-DFKD, Binici et al. 2022 (arXiv:2201.03019), sec. 4. `std` is the population's, in the accuracy's unit.
    """

    last: float
    best: float
    mean: float
    std: float


def curve_statistics(values: Sequence[float]) -> CurveStatistics:
    """Last, best, mean and standard deviation of a non-empty curve."""
    mean = math.fsum(values) / len(values)
    variance = math.fsum((value - mean) ** 2 for value in values) / len(values)
    return CurveStatistics(last=values[-1], best=max(values), mean=mean, std=math.sqrt(variance))
