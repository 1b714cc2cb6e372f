"""The output of every classifier."""

from typing import NamedTuple

import torch
from torch import Tensor


class Output(NamedTuple):
    """One forward pass of a teacher or a student.

    `features`: penultimate features after global average pooling, [B, d], not normalised.
    `logits`: class scores before softmax, [B, C].
    """

    features: Tensor
    logits: Tensor

    def first(self, number: int) -> "Output":
        """The output for the first `number` images."""
        return Output(self.features[:number], self.logits[:number])

    def joined(self, other: "Output") -> "Output":
        """The output for these images, followed by those of `other`."""
        return Output(torch.cat([self.features, other.features]), torch.cat([self.logits, other.logits]))
