"""DFAD: data-free adversarial distillation (Fang et al. 2019; arXiv:1912.11006)."""

from torch import nn

from cpsc.config import DistillConfig
from cpsc.losses.distillation import mean_absolute_difference
from cpsc.methods.base import AbstractMethod, Terms, View


class Dfad(AbstractMethod):
    """One game about the mean absolute logit difference: the student lessens it, the generator raises it. Eq. 4 and 5."""

    TERMS = frozenset({"l1", "adversarial"})

    def __init__(self, config: DistillConfig, *, teacher: nn.Module, student: nn.Module) -> None:
        del teacher, student
        super().__init__()
        self.generator_weights = {"adversarial_l1": config.weights.adversarial * config.weights.l1}
        self.student_weights = {"l1": config.weights.l1}

    def generator_terms(self, view: View) -> Terms:
        return {"adversarial_l1": -mean_absolute_difference(view.student.logits, view.teacher.logits)}

    def student_terms(self, view: View) -> Terms:
        return {"l1": mean_absolute_difference(view.student.logits, view.teacher.logits)}
