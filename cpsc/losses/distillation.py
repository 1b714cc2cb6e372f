"""Distillation losses: the distance of the student's logits from the teacher's. Shapes [B, C]; differentiable in both arguments."""

import torch
from torch import Tensor
from torch.nn import functional as F

NORM_FLOOR = 1e-4
"""Lower bound of the distance under the logarithm, whose gradient grows as 1 / distance and whose value is unbounded."""


def distillation_kl(student_logits: Tensor, teacher_logits: Tensor, *, temperature: float) -> Tensor:
    """KL(teacher || student) of temperature-softened classes, times temperature squared -> [B], nats.

    Hinton et al. 2015 (arXiv:1503.02531), sec. 2; at temperature 1 the L_KL of CPSC-DFKD eq. 6.
    """
    log_student = F.log_softmax(student_logits / temperature, dim=1)
    log_teacher = F.log_softmax(teacher_logits / temperature, dim=1)
    return temperature**2 * (log_teacher.exp() * (log_teacher - log_student)).sum(dim=1)


def log_l2_distance(student_logits: Tensor, teacher_logits: Tensor) -> Tensor:
    """log of the 2-norm of the whole batch's logit difference -> []. CPSC-DFKD eq. 6, L_L2.

    The norm is floored at `NORM_FLOOR`.
    """
    return torch.linalg.vector_norm(teacher_logits - student_logits).clamp_min(NORM_FLOOR).log()


def log_mse(student_logits: Tensor, teacher_logits: Tensor) -> Tensor:
    """log of the mean squared logit difference -> []. Used for the generator in the published CPSC code on CIFAR-10.

    Equals 2 log_l2_distance - log(B C), so its gradient is twice as large. It has the same floor.
    """
    floor = NORM_FLOOR**2 / student_logits.numel()
    return F.mse_loss(student_logits, teacher_logits).clamp_min(floor).log()


def mse(student_logits: Tensor, teacher_logits: Tensor) -> Tensor:
    """Mean squared logit difference per sample -> [B]. Used in the published CPSC code on CIFAR-100 and Tiny-ImageNet."""
    return (teacher_logits - student_logits).square().mean(dim=1)


def mean_absolute_difference(student_logits: Tensor, teacher_logits: Tensor) -> Tensor:
    """Mean absolute logit difference per sample -> [B]. DFAD, Fang et al. 2019 (arXiv:1912.11006), eq. 4."""
    return (teacher_logits - student_logits).abs().mean(dim=1)


def decision_kl(student_logits: Tensor, teacher_logits: Tensor) -> Tensor:
    """KL(teacher || student) where both pick the same class, else 0 -> [B]. CMI, Fang et al. 2021 (arXiv:2105.08584), eq. 8.

    The two are pushed apart only on images on which they still agree.
    """
    agree = student_logits.argmax(dim=1) == teacher_logits.argmax(dim=1)
    return agree * distillation_kl(student_logits, teacher_logits, temperature=1.0)
