"""Source of synthetic images, as the loop knows it."""

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from typing import Any, ClassVar, NamedTuple, Protocol

import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from cpsc.config import DistillConfig
from cpsc.execution import PLAIN, Generate
from cpsc.rng import RandomStreams
from cpsc.teacher import Teacher


class Stateful(Protocol):
    """What is saved and restored as one part of a run."""

    def state_dict(self) -> dict[str, Any]: ...

    def load_state_dict(self, state: Any, /) -> Any: ...


class Batch(NamedTuple):
    """One batch of the generator phase, with its graph, in the teacher's normalised space.

    `images`: as the networks see them, [B, K, H, W]; `labels`: the classes they are made for, [B]; `plain`: the same
    images as priors judge them, before augmentation; `local`: a second view of them, for methods that compare views.
    """

    images: Tensor
    labels: Tensor
    plain: Tensor
    local: Tensor | None = None


class AbstractSynthesis(ABC):
    """A source of images, trained in the generator phase and drawn from in the student phase.

    A generator turn is `begin`, then for each step `batch` and, once its loss is known, `on_loss`, then `end`.
    `heads`: modules of the method that train along; `generate`: runs a generator on latents and labels.
    """

    SECTIONS: ClassVar[frozenset[str]] = frozenset()
    """Which of `IMAGE_SECTIONS` a method has whose images are made so."""

    def __init__(
        self,
        config: DistillConfig,
        teacher: Teacher,
        streams: RandomStreams,
        device: torch.device,
        *,
        heads: tuple[nn.Module, ...] = (),
        generate: Generate = PLAIN.generate,
    ) -> None:
        self._config, self._teacher, self._streams, self._device = config, teacher, streams, device
        self._heads, self._generate = heads, generate
        self._set_up()

    @abstractmethod
    def _set_up(self) -> None:
        """Make what trains, and what is kept of it."""

    @classmethod
    def check(cls, config: DistillConfig) -> None:
        """Raise ConfigError where `config` sets what images made so do not have."""
        del config

    @classmethod
    def check_teacher(cls, config: DistillConfig, teacher: Teacher) -> None:
        """Raise ConfigError where images cannot be made so of `teacher`, or what `config` names beside it cannot be read."""
        del config, teacher

    @classmethod
    def contents(cls, config: DistillConfig) -> Mapping[str, str]:
        """Digests of what stands in the files that `config` names and its images are made by, by setting.

        ConfigError where one cannot be read.
        """
        del config
        return {}

    @classmethod
    def is_told_classes(cls, config: DistillConfig) -> bool:
        """Whether each image is made for a class."""
        del config
        return True

    @property
    @abstractmethod
    def modules(self) -> tuple[nn.Module, ...]:
        """What trains in the generator phase, the method's heads included."""

    def begin(self) -> None:  # noqa: B027 - a choice, not a duty
        """A generator turn begins."""

    @abstractmethod
    def batch(self) -> Batch:
        """The next batch to train on, with a graph to what trains."""

    def on_loss(self, loss: Tensor) -> Tensor | None:
        """The loss [] of the last batch -> whether it is the turn's best so far, [] on the device; None if that is no matter."""
        del loss
        return None

    def end(self) -> None:  # noqa: B027 - a choice, not a duty
        """The generator turn is over."""

    @abstractmethod
    def sample(self) -> tuple[Tensor, Tensor | None]:
        """A batch for the student, without a graph, and the labels it was made for, if any are known.

        The very same tensor as before says that the images are the same.
        """

    @property
    def importance(self) -> Tensor | None:
        """How much each image of the last `sample` counts in the student's loss, [B] on the device; None: all alike."""
        return None

    def on_gaps(self, gaps: Tensor) -> None:
        """KL divergence of student and teacher on each image of the last `sample`, [B]; told where `importance` is not None."""
        del gaps

    @abstractmethod
    def examples(self, per_class: int) -> tuple[Tensor, Tensor | None]:
        """Finished images, uint8 [N, K, H, W], and their labels if they were made for any: `per_class` of each, else plenty.

        Changes nothing.
        """

    @abstractmethod
    def optimizers(self) -> Sequence[Optimizer]:
        """What updates `modules`, for one step."""

    @abstractmethod
    def begin_epoch(self, epoch: int, *, lr: float) -> None:
        """`epoch`, from 1, begins, with this learning rate."""

    @abstractmethod
    def parts(self) -> Mapping[str, Stateful]:
        """State by the name it is saved under."""

    @property
    def num_stored_bytes(self) -> int:
        """Memory of images kept for replay."""
        return 0
