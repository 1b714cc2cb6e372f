"""Base class of a method: named, unweighted terms for the generator phase and for the student phase, and its settings."""

import math
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from cpsc.config import DistillConfig
from cpsc.models.output import Output
from cpsc.statistics import ChannelStatistics, num_norm_channels
from cpsc.synthesis import AbstractSynthesis, GeneratedImages

Terms = dict[str, Tensor]
Settings = Mapping[str, Any]
"""Nested keys of `DistillConfig`."""

LOG_BASES = {"e": math.e, "10": 10.0}

NO_OUTPUT = Output(torch.empty(0, 0), torch.empty(0, 0))
"""Placeholder for the output of a network that a phase did not run, because the method does not need it."""


@dataclass(frozen=True)
class BatchOutputs:
    """One synthetic batch as a phase sees it. Fields that the method does not need are empty.

    `labels` [B]: the classes that the images were generated for. `teacher`, `student`: float32 outputs on the batch.
    `observed`, `stored`: the teacher's batch-norm statistics on this batch (None: the layer did not run) and from its training,
    in the same order of layers. `pixels`: the images before augmentation. `attention`: maps by stage, of student and teacher.
    `hints`: features by stage, of the student and of the teacher's channels that it was made from. `channel_means`: of the
    teacher's layers on the local and on the global view, [B, D] each.
    """

    labels: Tensor
    teacher: Output
    student: Output
    observed: Sequence[ChannelStatistics | None] = ()
    stored: Sequence[ChannelStatistics] = ()
    pixels: Tensor | None = None
    attention: tuple[Sequence[Tensor], Sequence[Tensor]] = ((), ())
    hints: tuple[Sequence[Tensor], Sequence[Tensor]] = ((), ())
    channel_means: tuple[Tensor, ...] = ()


class AbstractMethod(nn.Module, ABC):
    """A data-free distillation method. It is a module, so that heads that it trains have parameters and state.

    `generator_weights`, `student_weights`: the factor of each term that the method returns in that phase; none is 0. Signs belong
    to the terms: weights are never negative.

    The constants below declare everything else about a method; `check` refuses settings that only this method cannot handle.
    """

    GENERATOR_TERMS: ClassVar[tuple[str, ...]] = ()
    """The entries of `config.weights` that the generator's loss uses; at least one must be above 0. Names that `LossWeights` does
    not have are the method's own terms: they are 0 unless a preset or a user sets them."""
    STUDENT_TERMS: ClassVar[tuple[str, ...]] = ()
    """The same for the student's loss."""
    TERMS: ClassVar[frozenset[str]] = frozenset()
    """Both together; set automatically for each class, so there is nothing to declare."""
    ADVERSARIAL: ClassVar[Mapping[str, tuple[str, ...]]] = {}
    """Terms in which the generator plays against the student, so that the student has to run: maps an entry of `config.weights`
    to the names of the terms in `generator_weights` that depend on it."""
    LABEL_TERMS: ClassVar[tuple[str, ...]] = ()
    """The entries of `config.weights` whose terms use the class that an image was made for."""
    NORM_TERMS: ClassVar[tuple[str, ...]] = ()
    """The entries whose terms compare the inputs of the teacher's batch norms, and which cannot be used if it has none."""
    SWITCHES: ClassVar[frozenset[str]] = frozenset()
    """The entries of `SwitchesConfig` that have an effect on this method."""
    SECTIONS: ClassVar[Mapping[str, type]] = {}
    """The method's own sections, by their key in `DistillConfig`: each is a frozen dataclass with a default for every field, and
    ``config.section(ThatClass)`` returns it."""
    SYNTHESIS: ClassVar[type[AbstractSynthesis]] = GeneratedImages
    """How its images are made."""
    PRESETS: ClassVar[Mapping[str, tuple[Settings, ...]]]
    """The settings that the method was published with, by name, the default first; later layers override earlier ones.

    `paper` and `original` are what a method's authors describe; `reference` is what the published code of CPSC-DFKD and PRE-DFKD
    does instead; `toolbox` is the DataFree toolbox's form of a baseline, which most published tables report."""
    BY_CLASSES: ClassVar[Mapping[str, tuple[tuple[int, Settings], ...]]] = {}
    """For each preset, further changes from a number of classes upwards; in ascending order of that number."""

    def __init_subclass__(cls, **kwargs: Any) -> None:
        super().__init_subclass__(**kwargs)
        cls.TERMS = frozenset((*cls.GENERATOR_TERMS, *cls.STUDENT_TERMS))

    @classmethod
    def check(cls, config: DistillConfig) -> None:
        """Raise ConfigError if `config` has a value that this method cannot handle, beyond what its constants declare."""
        del config

    @classmethod
    def fitting_defaults(cls, settings: Mapping[str, Settings]) -> dict[tuple[str, str], Any]:
        """Replacements, by section and key, for defaults that `check` would refuse together with the given `settings`."""
        del settings
        return {}

    generator_weights: Mapping[str, float]
    student_weights: Mapping[str, float]

    @property
    def needs_statistics(self) -> bool:
        """Whether the generator phase compares batch-norm statistics."""
        return "batch_statistics" in self.generator_weights

    @property
    def needs_student(self) -> bool:
        """Whether the generator phase runs the student."""
        return any(name in self.generator_weights for names in self.ADVERSARIAL.values() for name in names)

    @property
    def warmup_weights(self) -> dict[str, float]:
        """`generator_weights` for the warm-up: adversarial terms have the factor 0, so they are measured but do not count."""
        adversarial = {name for names in self.ADVERSARIAL.values() for name in names}
        return {name: 0.0 if name in adversarial else weight for name, weight in self.generator_weights.items()}

    @property
    def needs_attention(self) -> bool:
        """Whether the student phase compares attention maps."""
        return "attention" in self.student_weights

    @property
    def feature_layers(self) -> Sequence[nn.Module]:
        """The teacher's layers for which the generator phase compares channel means of the inputs; may be empty."""
        return ()

    @property
    def generator_heads(self) -> tuple[nn.Module, ...]:
        """Modules of the method that train together with the generator."""
        return ()

    @property
    def num_stored_bytes(self) -> int:
        """Memory of features kept for replay."""
        return 0

    @abstractmethod
    def generator_terms(self, view: BatchOutputs) -> Terms:
        """Terms to minimise over the generator, [B] or []; gradients reach the generator through both networks."""

    @abstractmethod
    def student_terms(self, view: BatchOutputs) -> Terms:
        """Terms to minimise over the student, [B] or []; images and the teacher's outputs carry no gradient."""

    def on_improvement(self, improved: Tensor | None) -> None:
        """Called after each generator step. `improved`: whether its batch is the best of the turn so far, [] on the device.

        None means that the last batch of a turn counts.
        """
        del improved

    def end_turn(self) -> None:
        """Called at the end of each generator turn."""


def active(weights: Mapping[str, float]) -> dict[str, float]:
    """The entries of `weights` that are not 0."""
    return {name: weight for name, weight in weights.items() if weight != 0}


def computed(weights: Mapping[str, float], **terms: Callable[[], Tensor]) -> Terms:
    """The `terms` that have a weight; the others are not computed."""
    return {name: terms[name]() for name in weights}


def feature_dim(network: nn.Module) -> int:
    """The width of the penultimate features that `network` returns."""
    dim = network.feature_dim
    assert isinstance(dim, int)
    return dim


def stages(network: nn.Module) -> tuple[nn.Module, ...]:
    """The modules whose outputs are the stage outputs of `network`; empty if it does not declare any."""
    found: tuple[nn.Module, ...] = getattr(network, "stages", ())
    return found


def num_input_channels(layer: nn.Module) -> int:
    """Number of input channels of a batch norm or of a stage of convolutions."""
    first = next((module for module in layer.modules() if isinstance(module, nn.Conv2d)), None)
    return num_norm_channels(layer) if first is None else first.in_channels
