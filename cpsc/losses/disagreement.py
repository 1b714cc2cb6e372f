"""Disagreement of student and teacher, which rewards images on which the two differ. Logits [B, C].

Differentiable in both arguments; whether the gradient also flows through the teacher is the method's choice.
"""

import math

import torch
from torch import Tensor

TEMPERATURE = 3.0
"""As in the published codes."""
CLAMP = (0.01, 0.99)


def agreement_by_jensen_shannon(student_logits: Tensor, teacher_logits: Tensor) -> Tensor:
    """1 - JS(teacher, student) at temperature 3 -> [B], in [1 - log 2, 1].

    The competition term of Yin et al. 2020 (arXiv:1912.08795), eq. 8, and the adversarial term of PRE-DFKD, Binici et al. 2022
    (arXiv:2201.03019). Computed from logarithms, so that even a very improbable class has a gradient.
    """
    log_p = (teacher_logits / TEMPERATURE).log_softmax(dim=1)
    log_q = (student_logits / TEMPERATURE).log_softmax(dim=1)
    log_m = torch.logaddexp(log_p, log_q) - math.log(2.0)
    divergence = 0.5 * (log_p.exp() * (log_p - log_m)).sum(dim=1) + 0.5 * (log_q.exp() * (log_q - log_m)).sum(dim=1)
    return 1.0 - divergence


def agreement_by_clamped_divergence(student_logits: Tensor, teacher_logits: Tensor) -> Tensor:
    """1 - JS' as the published DeepInversion code computes it, on probabilities clamped to [0.01, 0.99] -> [].

    Its divergences run from the mixture to the networks, KL(M || P), and their batch mean is clamped to [0, 1]: if the networks
    disagree more than that, the gradient vanishes. With many classes it also vanishes, as most probabilities are below the clamp.
    """
    return 1.0 - _clamped_divergence(student_logits, teacher_logits).sum(dim=1).mean().clamp(0.0, 1.0)


def agreement_by_unbounded_divergence(student_logits: Tensor, teacher_logits: Tensor) -> Tensor:
    """-JS', the same divergence in the form of the DataFree toolbox: neither clamped to [0, 1] nor subtracted from 1 -> [B]."""
    return -_clamped_divergence(student_logits, teacher_logits).sum(dim=1)


def agreement_by_elementwise_divergence(student_logits: Tensor, teacher_logits: Tensor) -> Tensor:
    """1 - JS', where JS' is also averaged over classes and clamped to [0, 1], as in the published PRE-DFKD code -> []."""
    return 1.0 - _clamped_divergence(student_logits, teacher_logits).mean().clamp(0.0, 1.0)


def _clamped_divergence(student_logits: Tensor, teacher_logits: Tensor) -> Tensor:
    p = (teacher_logits / TEMPERATURE).softmax(dim=1)
    q = (student_logits / TEMPERATURE).softmax(dim=1)
    m = (0.5 * (p + q)).clamp(*CLAMP)
    p, q = p.clamp(*CLAMP), q.clamp(*CLAMP)
    return 0.5 * m * (m.log() - p.log()) + 0.5 * m * (m.log() - q.log())
