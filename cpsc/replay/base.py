"""Interface between the loop and a memory of earlier images that are mixed into the student's batches."""

from abc import ABC, abstractmethod
from collections.abc import Mapping
from typing import NamedTuple

from torch import Tensor, nn

from cpsc.models import Output


class Recalled(NamedTuple):
    """Remembered images for one student batch, [n, K, H, W], and the teacher's answers if they were kept with them."""

    images: Tensor
    answers: Output | None = None


class AbstractReplay(nn.Module, ABC):
    """A memory: each student step recalls images from it, and shows it the new images of its batch.

    A memory that trains has terms, with their factors in `weights`, and is updated after each of the first `updates` student steps
    of an iteration.
    """

    weights: Mapping[str, float] = {}
    updates: int = 0

    @property
    @abstractmethod
    def num_stored_bytes(self) -> int:
        """Memory that it takes, in bytes."""

    @abstractmethod
    def recall(self) -> Recalled | None:
        """Images to add to the student's next batch of new ones, without a graph; None while there are none."""

    def rehearsed(self) -> Recalled:
        """A full batch of remembered images, once some have been shown. Only for memories that `replay.rehearsals` works with."""
        raise NotImplementedError

    @abstractmethod
    def remember(self, novel: Tensor, answers: Output) -> None:
        """Called after a student step on the new images `novel`, [B, K, H, W], with the teacher's `answers` to them."""

    def terms(self) -> dict[str, Tensor]:
        """Terms that an update minimises."""
        return {}

    def end_epoch(self, epoch: int) -> None:
        """Called at the end of `epoch`, counted from 1."""
