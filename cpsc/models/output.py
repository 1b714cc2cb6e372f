"""Output of every classifier."""

from typing import NamedTuple

from torch import Tensor


class Output(NamedTuple):
    """One forward pass of a teacher or a student.

    `features`: penultimate features after global average pooling, [B, d], not normalised.
    `logits`: class scores before softmax, [B, C].
    """

    features: Tensor
    logits: Tensor
