"""Metrics of a student, as functions of tensors or curves; no network is trained here."""

import math
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn

from cpsc.errors import DataError
from cpsc.losses.distillation import distillation_kl

EVALUATION_BATCH = 512
PIXELS_IN_CACHE = 1 << 16
"""Of a batch on the CPU: with more, activations leave the cache, and an image takes up to 1.8 times as long (64x64 pixels)."""
FEWEST_IN_CACHE = 16


@contextmanager
def evaluating(network: nn.Module) -> Iterator[None]:
    """Eval mode and no gradients inside the block; the previous mode is restored after it."""
    was_training = network.training
    network.eval()
    try:
        with torch.inference_mode():
            yield
    finally:
        network.train(was_training)


def evaluation_batch(images: Tensor) -> int:
    """How many of `images` [N, K, H, W] are evaluated at a time: on the CPU as many as its cache holds."""
    if images.device.type != "cpu":
        return EVALUATION_BATCH
    in_cache = PIXELS_IN_CACHE // math.prod(images.shape[2:])
    return min(max(in_cache, FEWEST_IN_CACHE), EVALUATION_BATCH)


def predict(network: nn.Module, images: Tensor) -> Tensor:
    """Logits of `network` on normalised `images` [N, K, H, W], in eval mode and float32 -> [N, C]."""
    return torch.cat([output.logits.float() for output in _passes(network, images)])


def features_and_logits(network: nn.Module, images: Tensor) -> tuple[Tensor, Tensor]:
    """Features before the classifier, flattened, and logits, of one pass as in `predict` -> [N, d], [N, C]."""
    outputs = _passes(network, images)
    features = torch.cat([output.features.float().flatten(1) for output in outputs])
    return features, torch.cat([output.logits.float() for output in outputs])


def _passes(network: nn.Module, images: Tensor) -> list[Any]:
    """The outputs, batch by batch: inference tensors, which are joined outside of inference mode to ordinary ones."""
    with evaluating(network):
        return [network(batch) for batch in images.split(evaluation_batch(images))]


def accuracy(logits: Tensor, labels: Tensor) -> float:
    """Share of rows of `logits` [N, C] whose largest entry is at `labels` [N]."""
    return (logits.argmax(dim=1) == labels).float().mean().item()


def agreement(student_logits: Tensor, teacher_logits: Tensor) -> float:
    """Share of images on which both networks pick the same class."""
    return accuracy(student_logits, teacher_logits.argmax(dim=1))


def agreements(student_logits: Tensor, teacher_logits: Tensor) -> Tensor:
    """Whether both networks pick the same class, per image -> bool [N]."""
    return student_logits.argmax(dim=1) == teacher_logits.argmax(dim=1)


def overlaps(student_logits: Tensor, teacher_logits: Tensor) -> Tensor:
    """Overlap of the two networks' class probabilities, 1 minus their total variation distance -> [N], in [0, 1]."""
    return torch.minimum(student_logits.softmax(dim=1), teacher_logits.softmax(dim=1)).sum(dim=1)


def mean_kl(student_logits: Tensor, teacher_logits: Tensor) -> float:
    """Mean KL(teacher || student), nats."""
    return distillation_kl(student_logits, teacher_logits, temperature=1.0).mean().item()


def class_balance(counts: Sequence[int] | Tensor) -> float:
    """Entropy of a class histogram [C], C > 1, divided by that of a uniform one: 1 is balanced, 0 is a single class.

    Meant for the classes that the teacher sees in synthetic images. Raises DataError if nothing was counted.
    """
    histogram = torch.as_tensor(counts, dtype=torch.float64)
    if not histogram.sum() > 0:
        raise DataError("class_balance: no image was counted, count at least one")
    shares = histogram / histogram.sum()
    return (torch.special.entr(shares).sum() / math.log(len(shares))).clamp(0.0, 1.0).item()
