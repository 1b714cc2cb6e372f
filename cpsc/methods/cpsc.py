"""CPSC-DFKD: conditional pseudo-supervised contrast (Shao, Zhang, Wang; Pattern Recognition 143, 2023; arXiv:2510.03375)."""

from collections.abc import Callable

from torch import Tensor, nn
from torch.nn import functional as F

from cpsc.config import DistillConfig
from cpsc.losses.contrast import teacher_anchored_contrast, two_view_contrast
from cpsc.losses.distillation import distillation_kl, log_l2_distance, log_mse, mse
from cpsc.losses.label import double_softmax_cross_entropy, label_cross_entropy
from cpsc.losses.statistics import batch_statistics_distance
from cpsc.methods.base import AbstractMethod, Terms, View, active, computed, feature_dim

Distance = Callable[[Tensor, Tensor], Tensor]

# The L2 term by its switch: (generator phase, student phase). The published CIFAR-10 code mixes two forms.
L2_DISTANCES: dict[str, tuple[Distance, Distance]] = {
    "log_norm": (log_l2_distance, log_l2_distance),
    "log_mse": (log_mse, log_l2_distance),
    "mse": (mse, mse),
}
LABEL_LOSSES = {"logits": label_cross_entropy, "probs": double_softmax_cross_entropy}
CONTRASTS = {"teacher_anchor": teacher_anchored_contrast, "two_view": two_view_contrast}


class Cpsc(AbstractMethod):
    """Generator: eq. 10, -adversarial (KL + alpha L2) + beta BNS + gamma SCL + eta CE(teacher).

    Student: eq. 9, KL + alpha L2 + eta CE(student).
    """

    TERMS = frozenset({"kl", "l2", "adversarial", "batch_statistics", "contrast", "label"})
    SECTIONS = frozenset({"cpsc", "replay"})
    USES_LABELS = True

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
        self.switches = config.cpsc
        self.distillation_temperature = config.distillation_temperature
        self.contrast_temperature = config.contrast_temperature
        self._generator_l2, self._student_l2 = L2_DISTANCES[config.cpsc.l2]
        self._label_loss = LABEL_LOSSES[config.cpsc.label_input]
        self._contrast = CONTRASTS[config.cpsc.contrast]
        self.adapter = _build_adapter(feature_dim(student), feature_dim(teacher)) if "contrast" in self.generator_weights else None

    @property
    def needs_student(self) -> bool:
        return super().needs_student or "contrast" in self.generator_weights

    @property
    def generator_heads(self) -> tuple[nn.Module, ...]:
        return (self.adapter,) if self.adapter is not None and self.switches.adapter_train else ()

    def generator_terms(self, view: View) -> Terms:
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

    def student_terms(self, view: View) -> Terms:
        student = view.student
        return computed(
            self.student_weights,
            kl=lambda: self._kl(view),
            l2=lambda: self._student_l2(student.logits, view.teacher.logits),
            label=lambda: self._label_loss(student.logits, view.labels),
        )

    def _kl(self, view: View) -> Tensor:
        return distillation_kl(view.student.logits, view.teacher.logits, temperature=self.distillation_temperature)

    def _contrast_term(self, view: View) -> Tensor:
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
