"""ZSKT: zero-shot knowledge transfer by adversarial belief matching (Micaelli and Storkey, NeurIPS 2019; arXiv:1905.09768)."""

from torch import Tensor, nn

from cpsc.config import DistillConfig
from cpsc.losses.attention import attention_distance
from cpsc.losses.distillation import distillation_kl
from cpsc.methods.base import AbstractMethod, Terms, View, active, computed


class Zskt(AbstractMethod):
    """Generator: -KL. Student: KL and attention transfer, eq. 1 and 2."""

    TERMS = frozenset({"kl", "adversarial", "attention"})
    SWITCHES = frozenset({"kl_mean"})

    def __init__(self, config: DistillConfig, *, teacher: nn.Module, student: nn.Module) -> None:
        del teacher, student
        super().__init__()
        weights = config.weights
        self.generator_weights = active({"adversarial_kl": weights.adversarial * weights.kl})
        self.student_weights = active({"kl": weights.kl, "attention": weights.attention})
        self.temperature = config.distillation_temperature
        self.kl_mean = config.switches.kl_mean

    def generator_terms(self, view: View) -> Terms:
        return {"adversarial_kl": -self._kl(view)}

    def student_terms(self, view: View) -> Terms:
        return computed(
            self.student_weights,
            kl=lambda: self._kl(view),
            attention=lambda: attention_distance(*view.attention),
        )

    def _kl(self, view: View) -> Tensor:
        divergence = distillation_kl(view.student.logits, view.teacher.logits, temperature=self.temperature)
        return divergence / view.teacher.logits.shape[1] if self.kl_mean == "element" else divergence
