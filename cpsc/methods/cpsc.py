"""CPSC-DFKD: conditional pseudo-supervised contrast (Shao, Zhang, Wang; Pattern Recognition 143, 2023; arXiv:2510.03375)."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, ClassVar, Literal

from torch import Tensor, nn
from torch.nn import functional as F

from cpsc.config import DistillConfig
from cpsc.kinds import of_stated_kinds
from cpsc.losses.contrast import teacher_anchored_contrast, two_view_contrast
from cpsc.losses.distillation import distillation_kl, log_l2_distance, log_mse, mse
from cpsc.losses.label import double_softmax_cross_entropy, label_cross_entropy
from cpsc.losses.statistics import batch_statistics_distance
from cpsc.methods.base import AbstractMethod, BatchOutputs, Settings, Terms, active, computed, feature_dim
from cpsc.methods.published_settings import CIFAR_100, IMAGENET, TINY_IMAGENET
from cpsc.rules import FORBID_UNKNOWN, positive

Distance = Callable[[Tensor, Tensor], Tensor]

# The L2 term by its switch: (generator phase, student phase). The published CIFAR-10 code mixes two forms.
L2_DISTANCES: dict[str, tuple[Distance, Distance]] = {
    "log_norm": (log_l2_distance, log_l2_distance),
    "log_mse": (log_mse, log_l2_distance),
    "mse": (mse, mse),
}
LABEL_LOSSES = {"logits": label_cross_entropy, "probs": double_softmax_cross_entropy}
CONTRASTS = {"teacher_anchor": teacher_anchored_contrast, "two_view": two_view_contrast}

REFERENCE: Settings = {
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
REFERENCE_CIFAR_100: Settings = {"cpsc": {"l2": "mse"}}  # the published code switches the form on the dataset's name
BATCHES: tuple[tuple[int, Settings], ...] = (
    (TINY_IMAGENET, {"schedule": {"batch_size": 256}}),
    (IMAGENET, {"schedule": {"batch_size": 64}}),
)


@dataclass(frozen=True, kw_only=True)
@of_stated_kinds("cpsc")
class CpscConfig:
    """Choices in which the paper and its published code differ; the defaults follow the paper."""

    __pydantic_config__: ClassVar[dict[str, Any]] = FORBID_UNKNOWN

    label_input: Literal["logits", "probs"] = "logits"
    """Input of the cross-entropy of eq. 7. `probs` passes softmax outputs, which makes it a double softmax."""
    l2: Literal["log_norm", "log_mse", "mse"] = "log_norm"
    """Distance of eq. 6: `log_mse` for the generator only (CIFAR-10 code), `mse` in both phases (CIFAR-100 code)."""
    l2_detach_teacher: bool = False
    """Let the gradient of the L2 term reach the generator through the student only."""
    contrast: Literal["teacher_anchor", "two_view"] = "teacher_anchor"
    """`two_view` is the generic SupCon over both views of the batch instead of eq. 8."""
    contrast_base_temperature: float | None = None
    """Multiply the contrast by temperature / base, so that the temperature also rescales its weight."""
    adapter_renormalise: bool = True
    """Normalise the features to unit length again after the adapter."""
    adapter_train: bool = True
    """Train the adapter with the generator; otherwise it stays a fixed random projection."""

    def __post_init__(self) -> None:
        if self.contrast_base_temperature is not None:
            positive("cpsc.contrast_base_temperature", self.contrast_base_temperature)


class Cpsc(AbstractMethod):
    """Generator: eq. 10, -adversarial (KL + alpha L2) + beta BNS + gamma SCL + eta CE(teacher).

    Student: eq. 9, KL + alpha L2 + eta CE(student).
    """

    GENERATOR_TERMS = ("adversarial", "batch_statistics", "contrast", "label")
    STUDENT_TERMS = ("kl", "l2", "label")
    ADVERSARIAL = {"adversarial": ("adversarial_kl", "adversarial_l2")}
    LABEL_TERMS = ("label", "contrast")
    SECTIONS = {"cpsc": CpscConfig}
    PRESETS = {"paper": (), "reference": (REFERENCE,)}
    BY_CLASSES = {"paper": BATCHES, "reference": ((CIFAR_100, REFERENCE_CIFAR_100), *BATCHES)}

    def __init__(self, config: DistillConfig, *, teacher: nn.Module, student: nn.Module) -> None:
        super().__init__()
        weights = config.weights
        self.generator_weights = active(
            {
                "adversarial_kl": weights.adversarial * weights.kl,
                "adversarial_l2": weights.adversarial * weights.l2,
                "batch_statistics": weights.batch_statistics,
                "contrast": weights.contrast,
                "label": weights.label,
            }
        )
        self.student_weights = active({"kl": weights.kl, "l2": weights.l2, "label": weights.label})
        self.switches = config.section(CpscConfig)
        self.distillation_temperature = config.distillation_temperature
        self.contrast_temperature = config.contrast_temperature
        self._generator_l2, self._student_l2 = L2_DISTANCES[self.switches.l2]
        self._label_loss = LABEL_LOSSES[self.switches.label_input]
        self._contrast = CONTRASTS[self.switches.contrast]
        self.adapter = _build_adapter(feature_dim(student), feature_dim(teacher)) if "contrast" in self.generator_weights else None

    @property
    def needs_student(self) -> bool:
        return super().needs_student or "contrast" in self.generator_weights

    @property
    def generator_heads(self) -> tuple[nn.Module, ...]:
        return (self.adapter,) if self.adapter is not None and self.switches.adapter_train else ()

    def generator_terms(self, view: BatchOutputs) -> Terms:
        teacher, student = view.teacher, view.student
        l2_target = teacher.logits.detach() if self.switches.l2_detach_teacher else teacher.logits
        return computed(
            self.generator_weights,
            adversarial_kl=lambda: -self._kl(view),
            adversarial_l2=lambda: -self._generator_l2(student.logits, l2_target),
            batch_statistics=lambda: batch_statistics_distance(view.observed, view.stored),
            contrast=lambda: self._contrast_term(view),
            label=lambda: self._label_loss(teacher.logits, view.labels),
        )

    def student_terms(self, view: BatchOutputs) -> Terms:
        student = view.student
        return computed(
            self.student_weights,
            kl=lambda: self._kl(view),
            l2=lambda: self._student_l2(student.logits, view.teacher.logits),
            label=lambda: self._label_loss(student.logits, view.labels),
        )

    def _kl(self, view: BatchOutputs) -> Tensor:
        return distillation_kl(view.student.logits, view.teacher.logits, temperature=self.distillation_temperature)

    def _contrast_term(self, view: BatchOutputs) -> Tensor:
        student = F.normalize(view.student.features, dim=1)
        if self.adapter is not None:
            student = self.adapter(student)
            if self.switches.adapter_renormalise:
                student = F.normalize(student, dim=1)
        teacher = F.normalize(view.teacher.features, dim=1)
        term = self._contrast(teacher, student, view.labels, temperature=self.contrast_temperature)
        if self.switches.contrast_base_temperature is not None:
            term = term * (self.contrast_temperature / self.switches.contrast_base_temperature)
        return term


def _build_adapter(student_dim: int, teacher_dim: int) -> nn.Module | None:
    if student_dim == teacher_dim:
        return None
    return nn.Sequential(nn.Linear(student_dim, student_dim), nn.ReLU(), nn.Linear(student_dim, teacher_dim))
