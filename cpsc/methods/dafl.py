"""DAFL: data-free learning of student networks (Chen et al., ICCV 2019; arXiv:1904.01186)."""

from torch import nn

from cpsc.config import DistillConfig
from cpsc.losses.confidence import class_imbalance, negative_activation, one_hot_loss
from cpsc.losses.distillation import distillation_kl
from cpsc.methods.base import LOG_BASES, AbstractMethod, Terms, View, active, computed


class Dafl(AbstractMethod):
    """Generator: eq. 5, what the teacher is confident about, strongly activated by, and class-balanced on. Student: KL.

    The student has no part in making the images.
    """

    TERMS = frozenset({"kl", "one_hot", "balance", "activation"})
    SWITCHES = frozenset({"balance_base"})

    def __init__(self, config: DistillConfig, *, teacher: nn.Module, student: nn.Module) -> None:
        del teacher, student
        super().__init__()
        weights = config.weights
        self.generator_weights = active({"one_hot": weights.one_hot, "balance": weights.balance, "activation": weights.activation})
        self.student_weights = active({"kl": weights.kl})
        self.temperature = config.distillation_temperature
        self.balance_base = LOG_BASES[config.switches.balance_base]

    def generator_terms(self, view: View) -> Terms:
        teacher = view.teacher
        return computed(
            self.generator_weights,
            one_hot=lambda: one_hot_loss(teacher.logits),
            balance=lambda: class_imbalance(teacher.logits, base=self.balance_base),
            activation=lambda: negative_activation(teacher.features),
        )

    def student_terms(self, view: View) -> Terms:
        return {"kl": distillation_kl(view.student.logits, view.teacher.logits, temperature=self.temperature)}
