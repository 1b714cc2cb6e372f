"""What a method is: named, unweighted terms for the generator phase and for the student phase."""

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from torch import Tensor, nn

from cpsc.models.output import Output
from cpsc.statistics import ChannelStatistics

Terms = dict[str, Tensor]


@dataclass(frozen=True)
class View:
    """One synthetic batch as a phase sees it.

    `teacher`, `student`: float32 outputs on the batch; `labels` [B] are those the images were generated for.
    `observed`, `stored`: the teacher's batch-norm statistics on this batch and in training; empty where no term needs them.
    """

    labels: Tensor
    teacher: Output
    student: Output
    observed: Sequence[ChannelStatistics] = ()
    stored: Sequence[ChannelStatistics] = ()


class AbstractMethod(nn.Module, ABC):
    """A data-free distillation method; a module, so that heads it trains have parameters and state.

    `generator_weights`, `student_weights`: the factor of each term the method returns in that phase, all
    non-zero. Signs belong to the terms: weights are never negative.
    """

    generator_weights: Mapping[str, float]
    student_weights: Mapping[str, float]

    @property
    def needs_statistics(self) -> bool:
        """Whether the generator phase compares batch-norm statistics."""
        return "batch_statistics" in self.generator_weights

    @property
    def generator_heads(self) -> tuple[nn.Module, ...]:
        """Modules of the method that train together with the generator."""
        return ()

    @abstractmethod
    def generator_terms(self, view: View) -> Terms:
        """Terms to minimise over the generator, [B] or []; gradients reach it through both networks."""

    @abstractmethod
    def student_terms(self, view: View) -> Terms:
        """Terms to minimise over the student, [B] or []; the images and the teacher's outputs carry no graph."""


def active(weights: Mapping[str, float]) -> dict[str, float]:
    """The entries of `weights` that are not 0."""
    return {name: weight for name, weight in weights.items() if weight != 0}
