"""A method: named, unweighted terms for the generator phase and for the student phase, and what it has of settings."""

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
"""Stands for a network that a phase did not run, because the method does not need it there."""


@dataclass(frozen=True)
class BatchOutputs:
    """One synthetic batch as a phase sees it.

    `teacher`, `student`: float32 outputs on the batch; `labels` [B] are those the images were generated for.
    `observed`, `stored`: the teacher's batch-norm statistics on this batch (None: the layer did not run) and in training, in one
    order of layers; `pixels`: the images before augmentation; `attention`: maps by stage, the student's and the teacher's;
    `hints`: features by stage, the student's and those of the teacher's channels that it was made of; `channel_means`: of the
    teacher's layers on the local and the global view, [B, D] each. Each is empty where the method does not need it.
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
    """A data-free distillation method; a module, so that heads it trains have parameters and state.

    `generator_weights`, `student_weights`: the factor of each term the method returns in that phase, all
    non-zero. Signs belong to the terms: weights are never negative.

    All that is known of a method beside its terms its class says, in the constants below; `check` refuses what only it cannot take.
    """

    GENERATOR_TERMS: ClassVar[tuple[str, ...]] = ()
    """The entries of `config.weights` that the generator's loss has; one of them must count. Those that `LossWeights` does not
    name are the method's own: they are 0 unless a preset or a user says otherwise."""
    STUDENT_TERMS: ClassVar[tuple[str, ...]] = ()
    """The same for the student's loss."""
    TERMS: ClassVar[frozenset[str]] = frozenset()
    """Both together: nothing to declare, each class has its own from them."""
    ADVERSARIAL: ClassVar[Mapping[str, tuple[str, ...]]] = {}
    """Terms by which the generator plays against the student, for which it is asked: by the entry of `config.weights` that
    they hang on, the names that they have in `generator_weights`."""
    LABEL_TERMS: ClassVar[tuple[str, ...]] = ()
    """The entries of `config.weights` whose terms ask which class an image was made for."""
    NORM_TERMS: ClassVar[tuple[str, ...]] = ()
    """Those whose terms compare what enters the teacher's batch norms, and have nothing in their place where it has none."""
    SWITCHES: ClassVar[frozenset[str]] = frozenset()
    """The entries of `SwitchesConfig` that change something in it."""
    SECTIONS: ClassVar[Mapping[str, type]] = {}
    """Sections that the method brings along, by their key in `DistillConfig`: a frozen dataclass with a default for each field,
    which ``config.section(ThatClass)`` returns."""
    SYNTHESIS: ClassVar[type[AbstractSynthesis]] = GeneratedImages
    """How its images are made."""
    PRESETS: ClassVar[Mapping[str, tuple[Settings, ...]]]
    """The settings that the method was published with, by name, the default first; later layers lie over earlier ones.

    `paper` and `original` are what a method's authors describe; `reference` is what CPSC-DFKD's and PRE-DFKD's published code
    does instead; `toolbox` is the DataFree toolbox's form of a baseline, which most published tables report."""
    BY_CLASSES: ClassVar[Mapping[str, tuple[tuple[int, Settings], ...]]] = {}
    """What a preset changes further from so many classes on, by preset; the fewest first."""

    def __init_subclass__(cls, **kwargs: Any) -> None:
        super().__init_subclass__(**kwargs)
        cls.TERMS = frozenset((*cls.GENERATOR_TERMS, *cls.STUDENT_TERMS))

    @classmethod
    def check(cls, config: DistillConfig) -> None:
        """Raise ConfigError where `config` sets what this method cannot take, beyond what its constants tell."""
        del config

    @classmethod
    def fitting_defaults(cls, settings: Mapping[str, Settings]) -> dict[tuple[str, str], Any]:
        """Defaults of its own, by section and key, for those that `check` would refuse beside `settings`, the sections as set."""
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
        """Whether the generator phase asks the student."""
        return any(name in self.generator_weights for names in self.ADVERSARIAL.values() for name in names)

    @property
    def warmup_weights(self) -> dict[str, float]:
        """`generator_weights` without an adversary: the factors of its terms are 0, so they are measured and do not count."""
        adversarial = {name for names in self.ADVERSARIAL.values() for name in names}
        return {name: 0.0 if name in adversarial else weight for name, weight in self.generator_weights.items()}

    @property
    def needs_attention(self) -> bool:
        """Whether the student phase compares attention maps."""
        return "attention" in self.student_weights

    @property
    def feature_layers(self) -> Sequence[nn.Module]:
        """The teacher's layers whose inputs' channel means the generator phase compares; empty: none."""
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
        """Terms to minimise over the generator, [B] or []; gradients reach it through both networks."""

    @abstractmethod
    def student_terms(self, view: BatchOutputs) -> Terms:
        """Terms to minimise over the student, [B] or []; the images and the teacher's outputs carry no graph."""

    def on_improvement(self, improved: Tensor | None) -> None:
        """Whether the last generator step's batch is its turn's best so far, [] on the device; None: the last one counts."""
        del improved

    def end_turn(self) -> None:
        """A generator turn is over."""


def active(weights: Mapping[str, float]) -> dict[str, float]:
    """The entries of `weights` that are not 0."""
    return {name: weight for name, weight in weights.items() if weight != 0}


def computed(weights: Mapping[str, float], **terms: Callable[[], Tensor]) -> Terms:
    """Those of `terms` that have a weight: what counts for nothing is not computed."""
    return {name: terms[name]() for name in weights}


def feature_dim(network: nn.Module) -> int:
    """The width of the penultimate features that `network` returns."""
    dim = network.feature_dim
    assert isinstance(dim, int)
    return dim


def stages(network: nn.Module) -> tuple[nn.Module, ...]:
    """The modules whose outputs are the stage outputs of `network`; empty where it names none."""
    found: tuple[nn.Module, ...] = getattr(network, "stages", ())
    return found


def num_input_channels(layer: nn.Module) -> int:
    """Channels of what enters a batch norm or a stage of convolutions."""
    first = next((module for module in layer.modules() if isinstance(module, nn.Conv2d)), None)
    return num_norm_channels(layer) if first is None else first.in_channels
