"""What is remembered of earlier images and mixed into the student's batches, as the loop knows it."""

from abc import ABC, abstractmethod
from collections.abc import Mapping
from typing import NamedTuple

from torch import Tensor, nn

from cpsc.models import Output


class Recalled(NamedTuple):
    """Remembered images for one student batch, [n, K, H, W], and, where they are kept with them, the teacher's answers."""

    images: Tensor
    answers: Output | None = None


class AbstractReplay(nn.Module, ABC):
    """A memory: each student step recalls from it, and shows it what was new in the step's batch.

    One that trains has terms, with their factors in `weights`, and is updated after each of an iteration's first `updates`
    student steps.
    """

    weights: Mapping[str, float] = {}
    updates: int = 0

    @property
    @abstractmethod
    def num_stored_bytes(self) -> int:
        """What it takes."""

    @abstractmethod
    def recall(self) -> Recalled | None:
        """Images for the next student batch of new ones, without a graph; None while there are none."""

    def rehearsed(self) -> Recalled:
        """A whole batch of remembered images, once some have been shown. Only of what `replay.rehearsals` can be set for."""
        raise NotImplementedError

    @abstractmethod
    def remember(self, novel: Tensor, answers: Output) -> None:
        """A student step has trained on `novel`, [B, K, H, W], to which the teacher gave `answers`."""

    def terms(self) -> dict[str, Tensor]:
        """What an update minimises."""
        return {}

    def end_epoch(self, epoch: int) -> None:
        """`epoch`, from 1, is over."""
