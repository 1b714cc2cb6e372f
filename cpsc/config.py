"""Settings of one distillation run: frozen, nested, checked on construction.

Defaults are the paper's (CPSC-DFKD, Shao et al. 2023, sec. 4.1, and the command its authors publish).
Plain dataclasses keep this package free of pydantic; ``__pydantic_config__`` lets the edge validate the
same definition and reject unknown keys with their path.
"""

import sys
from dataclasses import dataclass, field
from typing import Any, ClassVar, Literal

from cpsc.errors import ConfigError

FORBID_UNKNOWN: dict[str, Any] = {"extra": "forbid"}

Precision = Literal["auto", "fp32", "bf16", "fp16"]


def require(holds: bool, path: str, value: object, rule: str) -> None:
    """Raise the one-line ConfigError of this package unless `holds`."""
    if not holds:
        raise ConfigError(f"{path} must be {rule}, got {value!r}")


def _positive(path: str, value: float) -> None:
    require(0 < value <= sys.float_info.max, path, value, "> 0")


def _non_negative(path: str, value: float) -> None:
    require(0 <= value <= sys.float_info.max, path, value, ">= 0")


def _at_most(path: str, value: int, limit: int) -> None:
    """Beyond any use, and what lies there fails only once it runs: as a tensor that no memory holds."""
    require(value <= limit, path, value, f"<= {limit}")


@dataclass(frozen=True, kw_only=True)
class LossWeights:
    """Factors of the loss terms; a term of weight 0 is not computed."""

    __pydantic_config__: ClassVar[dict[str, Any]] = FORBID_UNKNOWN

    kl: float = 1.0
    """KL divergence inside eq. 6 (the paper fixes it to 1)."""
    l2: float = 5.0
    """Log-L2 distance inside eq. 6, alpha."""
    adversarial: float = 1.0
    """The whole of eq. 6 in the generator's loss, eq. 10 (the paper fixes it to 1)."""
    batch_statistics: float = 1.0
    """Batch-norm statistics, eq. 2, beta."""
    contrast: float = 0.7
    """Teacher-anchored supervised contrast, eq. 8, gamma."""
    label: float = 0.7
    """Cross-entropy with the sampled label, eq. 7, eta, in both phases."""

    def __post_init__(self) -> None:
        for name, value in vars(self).items():
            _non_negative(f"weights.{name}", value)
        generator = self.adversarial + self.batch_statistics + self.contrast + self.label
        require(generator > 0, "weights", 0.0, "not all 0 in the generator's loss: it would learn nothing")
        require(self.kl + self.l2 > 0, "weights.kl and weights.l2", 0.0, "not both 0: the student would learn nothing")


@dataclass(frozen=True, kw_only=True)
class StudentConfig:
    """The student and its SGD with linear warm-up and cosine decay."""

    __pydantic_config__: ClassVar[dict[str, Any]] = FORBID_UNKNOWN

    arch: str = "resnet18"
    lr: float = 0.1
    momentum: float = 0.9
    weight_decay: float = 5e-4
    warmup_epochs: int = 10
    final_lr_fraction: float = 0.0
    """Where the cosine ends. At the paper's 0 the last epoch trains with rate 0, which short runs cannot spare."""
    train_mode_in_generator_phase: bool = True
    """Batch statistics, and updates of the running ones, also while the generator trains (as published)."""

    def __post_init__(self) -> None:
        _positive("student.lr", self.lr)
        require(0 <= self.momentum < 1, "student.momentum", self.momentum, "in [0, 1)")
        _non_negative("student.weight_decay", self.weight_decay)
        _non_negative("student.warmup_epochs", self.warmup_epochs)
        require(0 <= self.final_lr_fraction <= 1, "student.final_lr_fraction", self.final_lr_fraction, "in [0, 1]")


@dataclass(frozen=True, kw_only=True)
class GeneratorConfig:
    """The conditional generator and its Adam with milestones."""

    __pydantic_config__: ClassVar[dict[str, Any]] = FORBID_UNKNOWN

    latent_dim: int = 256
    width: int = 128
    """Channels of the first two stages; the third has half."""
    embedding: Literal["none", "three_layer", "full"] = "full"
    """How many of the four norm layers are categorical feature embeddings (table 5)."""
    lr: float = 1e-3
    beta1: float = 0.5
    beta2: float = 0.999
    milestones: tuple[int, ...] = (50, 150)
    """Epochs after which the learning rate is multiplied by `decay`."""
    decay: float = 0.1
    optimizer: Literal["persistent", "fresh"] = "persistent"
    """`fresh` builds a new Adam for every step, as the published code does (no moments)."""
    decay_lr: bool = True
    """False ignores the milestones, as the published code does in effect."""

    def __post_init__(self) -> None:
        _positive("generator.latent_dim", self.latent_dim)
        _at_most("generator.latent_dim", self.latent_dim, 65_536)
        require(self.width >= 2 and self.width % 2 == 0, "generator.width", self.width, "even and >= 2")
        _at_most("generator.width", self.width, 4096)
        _positive("generator.lr", self.lr)
        require(0 <= self.beta1 < 1, "generator.beta1", self.beta1, "in [0, 1)")
        require(0 <= self.beta2 < 1, "generator.beta2", self.beta2, "in [0, 1)")
        require(
            list(self.milestones) == sorted(set(self.milestones)) and min(self.milestones, default=1) > 0,
            "generator.milestones",
            list(self.milestones),
            "rising positive epochs",
        )
        require(0 < self.decay <= 1, "generator.decay", self.decay, "in (0, 1]")


@dataclass(frozen=True, kw_only=True)
class CpscConfig:
    """Choices on which the paper and its published code differ; the defaults are the paper's."""

    __pydantic_config__: ClassVar[dict[str, Any]] = FORBID_UNKNOWN

    label_input: Literal["logits", "probs"] = "logits"
    """`probs` feeds softmax outputs to the cross-entropy, i.e. a double softmax (eq. 7)."""
    l2: Literal["log_norm", "log_mse", "mse"] = "log_norm"
    """Distance of eq. 6: `log_mse` for the generator only (CIFAR-10 code), `mse` in both phases (CIFAR-100 code)."""
    l2_detach_teacher: bool = False
    """Let the generator's L2 term reach it through the student only."""
    contrast: Literal["teacher_anchor", "two_view"] = "teacher_anchor"
    """`two_view` is the generic SupCon over both views of the batch instead of eq. 8."""
    contrast_base_temperature: float | None = None
    """Multiply the contrast by temperature / base, which makes the temperature rescale its weight."""
    adapter_renormalise: bool = True
    """Unit norm again after the adapter."""
    adapter_train: bool = True
    """Train the adapter with the generator; otherwise it stays a fixed random projection."""

    def __post_init__(self) -> None:
        if self.contrast_base_temperature is not None:
            _positive("cpsc.contrast_base_temperature", self.contrast_base_temperature)


@dataclass(frozen=True, kw_only=True)
class ScheduleConfig:
    """One epoch: `iterations` times (`generator_steps` updates of G, then `student_steps` updates of S)."""

    __pydantic_config__: ClassVar[dict[str, Any]] = FORBID_UNKNOWN

    iterations: int = 50
    generator_steps: int = 6
    student_steps: int = 5
    batch_size: int = 512

    def __post_init__(self) -> None:
        for name, value in vars(self).items():
            _positive(f"schedule.{name}", value)
            _at_most(f"schedule.{name}", value, 65_536 if name == "batch_size" else 1_000_000)
        require(self.batch_size >= 2, "schedule.batch_size", self.batch_size, ">= 2 (batch norm)")


@dataclass(frozen=True, kw_only=True)
class DistillConfig:
    """Everything that decides the numbers of one run, together with the teacher and the probe set."""

    __pydantic_config__: ClassVar[dict[str, Any]] = FORBID_UNKNOWN

    method: Literal["cpsc"] = "cpsc"
    epochs: int = 600
    seed: int = 0
    distillation_temperature: float = 1.0
    """Temperature of the KL term of eq. 6; the term is multiplied by its square."""
    contrast_temperature: float = 0.07
    """Temperature of eq. 8, tau."""
    weights: LossWeights = field(default_factory=LossWeights)
    student: StudentConfig = field(default_factory=StudentConfig)
    generator: GeneratorConfig = field(default_factory=GeneratorConfig)
    schedule: ScheduleConfig = field(default_factory=ScheduleConfig)
    cpsc: CpscConfig = field(default_factory=CpscConfig)
    precision: Precision = "auto"
    """`auto`: bf16 where the processor multiplies it natively, else fp32. Losses are always float32."""
    diverged_above: float = 1e6
    """A loss term whose mean times its weight is larger than this, up or down, has diverged as surely as one that is NaN.

    Terms that train lie far below: cross-entropies and KL are at most some hundred nats even between saturated
    networks, logarithms some tens, batch statistics at most some thousands; what passes a million does not come back.
    """

    def __post_init__(self) -> None:
        _positive("epochs", self.epochs)
        _at_most("epochs", self.epochs, 1_000_000)
        _positive("diverged_above", self.diverged_above)
        _non_negative("seed", self.seed)
        _positive("distillation_temperature", self.distillation_temperature)
        _positive("contrast_temperature", self.contrast_temperature)
        require(
            self.student.warmup_epochs <= self.epochs,
            "student.warmup_epochs",
            self.student.warmup_epochs,
            f"<= epochs ({self.epochs})",
        )


REFERENCE_CHANGES: dict[str, Any] = {
    "generator": {"optimizer": "fresh", "decay_lr": False},
    "cpsc": {
        "label_input": "probs",
        "l2": "log_mse",
        "l2_detach_teacher": True,
        "contrast": "two_view",
        "contrast_base_temperature": 0.07,
        "adapter_renormalise": False,
        "adapter_train": False,
    },
}

PRESETS: dict[str, dict[str, Any]] = {"paper": {}, "reference": REFERENCE_CHANGES}
"""Settings by preset name. `reference` is the published CPSC code on CIFAR-10; its CIFAR-100 and
Tiny-ImageNet form differs by ``cpsc.l2: mse``, which `preset` fills in from the number of classes."""


def preset(name: str, *, num_classes: int) -> dict[str, Any]:
    """The settings that preset `name` changes, as a nested dict to lay under a user's own."""
    if name not in PRESETS:
        raise ConfigError(f"preset {name!r}: unknown, use one of {', '.join(PRESETS)}")
    changes = {section: dict(values) for section, values in PRESETS[name].items()}
    if name == "reference" and num_classes >= 100:
        changes["cpsc"]["l2"] = "mse"  # the published code switches the form on the dataset's name
    return changes
