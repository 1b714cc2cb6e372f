"""Supervised contrast between two networks' views of one batch. Features are unit vectors, [B, d]."""

import torch
from torch import Tensor
from torch.nn import functional as F


def teacher_anchored_contrast(teacher_features: Tensor, student_features: Tensor, labels: Tensor, *, temperature: float) -> Tensor:
    """Pull each teacher feature towards the student features of its class -> [B]. CPSC-DFKD eq. 8.

    Anchors: the teacher's features [B, d]. Candidates: all student features [B, d] of the batch. Positives: candidates
    with the anchor's label, including its own image. Swapping the two networks changes the value.
    """
    log_probs = F.log_softmax(teacher_features @ student_features.T / temperature, dim=1)
    return -_mean_over(log_probs, labels[:, None] == labels[None, :])


def two_view_contrast(teacher_features: Tensor, student_features: Tensor, labels: Tensor, *, temperature: float) -> Tensor:
    """SupCon over the 2B stacked views, self excluded -> [2B], as the published CPSC code computes eq. 8.

    Khosla et al. 2020 (arXiv:2004.11362), eq. 2, without its factor temperature / base temperature.
    """
    views = torch.cat([student_features, teacher_features])
    is_self = torch.eye(len(views), dtype=torch.bool, device=views.device)
    similarity = (views @ views.T / temperature).masked_fill(is_self, float("-inf"))
    both = labels.repeat(2)
    is_positive = (both[:, None] == both[None, :]) & ~is_self
    # The masked diagonal is -inf; 0 there keeps -inf * 0 out of the mean and of its gradient.
    log_probs = F.log_softmax(similarity, dim=1).masked_fill(is_self, 0.0)
    return -_mean_over(log_probs, is_positive)


def _mean_over(values: Tensor, mask: Tensor) -> Tensor:
    return (values * mask).sum(dim=1) / mask.sum(dim=1)
