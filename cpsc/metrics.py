"""Metrics of a student: functions of tensors or of curves; no network is trained here."""

import math
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import NamedTuple

import torch
from torch import Tensor, nn

from cpsc.errors import DataError
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


def agreements(student_logits: Tensor, teacher_logits: Tensor) -> Tensor:
    """On which images both networks pick the same class -> bool [N]."""
    return student_logits.argmax(dim=1) == teacher_logits.argmax(dim=1)


def overlaps(student_logits: Tensor, teacher_logits: Tensor) -> Tensor:
    """What the two networks' probabilities of an image have in common, 1 minus their total variation -> [N], in 0 to 1."""
    return torch.minimum(student_logits.softmax(dim=1), teacher_logits.softmax(dim=1)).sum(dim=1)


def mean_kl(student_logits: Tensor, teacher_logits: Tensor) -> float:
    """Mean KL(teacher || student), nats."""
    return distillation_kl(student_logits, teacher_logits, temperature=1.0).mean().item()


def class_balance(counts: Sequence[int] | Tensor) -> float:
    """Entropy of a histogram of classes [C], C > 1, over that of a flat one: 1 is balanced, 0 is one class only.

    Meant for the classes that the teacher sees in synthetic images. Raises DataError where nothing was counted.
    """
    histogram = torch.as_tensor(counts, dtype=torch.float64)
    if not histogram.sum() > 0:
        raise DataError("class_balance: no image was counted, count at least one")
    shares = histogram / histogram.sum()
    return (torch.special.entr(shares).sum() / math.log(len(shares))).clamp(0.0, 1.0).item()


class CurveStatistics(NamedTuple):
    """One accuracy over a run's epochs; mean and deviation tell what a blind stop would give.

    PRE-DFKD, Binici et al. 2022 (arXiv:2201.03019), sec. 4. Deviations are the population's, `std` in the accuracy's unit and
    `variance` in its square. What was published there as a variance, 10 to 24, can only be a deviation in percentage points:
    compare it with 100 * `std`. The second half of the epochs tells of stability rather than of the first climb.
    """

    last: float
    best: float
    mean: float
    std: float
    variance: float
    second_half_mean: float
    second_half_std: float
    second_half_variance: float
    last_10_mean: float
    """Of all epochs where there are fewer."""


def curve_statistics(values: Sequence[float]) -> CurveStatistics:
    """Sums up a non-empty curve; of an odd number of epochs the middle one belongs to the second half."""
    second_half = values[len(values) // 2 :]
    variance, second_half_variance = _variance(values), _variance(second_half)
    return CurveStatistics(
        last=values[-1],
        best=max(values),
        mean=_mean(values),
        std=math.sqrt(variance),
        variance=variance,
        second_half_mean=_mean(second_half),
        second_half_std=math.sqrt(second_half_variance),
        second_half_variance=second_half_variance,
        last_10_mean=_mean(values[-10:]),
    )


def _mean(values: Sequence[float]) -> float:
    return math.fsum(values) / len(values)


def _variance(values: Sequence[float]) -> float:
    mean = _mean(values)
    return math.fsum((value - mean) ** 2 for value in values) / len(values)
