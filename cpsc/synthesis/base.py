"""Interface between the loop and a source of synthetic images."""

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
    """Anything that is saved and restored as one part of a run."""

    def state_dict(self) -> dict[str, Any]: ...

    def load_state_dict(self, state: Any, /) -> Any: ...


class Batch(NamedTuple):
    """One batch of the generator phase, with its graph, in the teacher's normalised space.

    `images`: as the networks see them, [B, K, H, W]. `labels`: the classes that they are made for, [B]. `plain`: the same images
    before augmentation, for the priors. `local`: a second view of them, for methods that compare views.
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
    """Which of `IMAGE_SECTIONS` the methods with this synthesis have."""

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
        """Create the modules that train, and the storage for images."""

    @classmethod
    def check(cls, config: DistillConfig) -> None:
        """Raise ConfigError if `config` sets something that this synthesis does not have."""
        del config

    @classmethod
    def check_teacher(cls, config: DistillConfig, teacher: Teacher) -> None:
        """Raise ConfigError if images cannot be made from `teacher` in this way, or a file that `config` names cannot be read."""
        del config, teacher

    @classmethod
    def contents(cls, config: DistillConfig) -> Mapping[str, str]:
        """Digests, by setting, of the files that `config` names and that influence the images.

        ConfigError if one cannot be read.
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
        """The modules that train in the generator phase, including the method's heads."""

    def begin(self) -> None:  # noqa: B027 - optional to override
        """Called at the beginning of a generator turn."""

    @abstractmethod
    def batch(self) -> Batch:
        """The next batch to train on, with a graph to the modules that train."""

    def on_loss(self, loss: Tensor) -> Tensor | None:
        """Take the loss [] of the last batch -> whether it is the turn's best so far, [] on the device; None if irrelevant."""
        del loss
        return None

    def end(self) -> None:  # noqa: B027 - optional to override
        """Called at the end of a generator turn."""

    @abstractmethod
    def sample(self) -> tuple[Tensor, Tensor | None]:
        """A batch for the student, without a graph, and the labels that it was made for, if known.

        If the images are the same as before, it is the same tensor object.
        """

    @property
    def importance(self) -> Tensor | None:
        """Weight of each image of the last `sample` in the student's loss, [B] on the device; None: all equal."""
        return None

    def on_gaps(self, gaps: Tensor) -> None:
        """Take the KL divergence of student and teacher on each image of the last `sample`, [B], if `importance` is not None."""
        del gaps

    @abstractmethod
    def examples(self, per_class: int) -> tuple[Tensor, Tensor | None]:
        """Finished images, uint8 [N, K, H, W], with labels if they are made for classes: `per_class` of each; else more of them.

        Does not change the run.
        """

    @abstractmethod
    def current_images(self, num: int) -> Tensor:
        """`num` finished images of any classes, uint8 [num, K, H, W]; fewer if a pool does not hold as many.

        Does not change the run.
        """

    @abstractmethod
    def optimizers(self) -> Sequence[Optimizer]:
        """The optimizers that update `modules`, for one step."""

    @abstractmethod
    def begin_epoch(self, epoch: int, *, lr: float) -> None:
        """Called at the beginning of `epoch`, counted from 1, with its learning rate."""

    @abstractmethod
    def parts(self) -> Mapping[str, Stateful]:
        """Parts with state, by the names that they are saved under."""

    @property
    def num_stored_bytes(self) -> int:
        """Memory of images kept for replay."""
        return 0
