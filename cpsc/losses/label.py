"""Agreement with the label that an image was generated for. Shapes [B, C], [B] -> [B]."""

from torch import Tensor
from torch.nn import functional as F


def label_cross_entropy(logits: Tensor, labels: Tensor) -> Tensor:
    """Cross-entropy of softmax(logits) with integer `labels` -> [B], nats. CPSC-DFKD eq. 7."""
    return F.cross_entropy(logits, labels, reduction="none")


def double_softmax_cross_entropy(logits: Tensor, labels: Tensor) -> Tensor:
    """Cross-entropy of softmax(softmax(logits)) with `labels` -> [B], as the published CPSC code computes eq. 7.

    It is never below log(e + C - 1) - 1 (1.461 for ten classes), and its gradient vanishes on confident mistakes.
    """
    return F.cross_entropy(logits.softmax(dim=1), labels, reduction="none")
