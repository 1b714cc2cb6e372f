"""PRE-DFKD: preventing distribution shift by generative pseudo replay (Binici et al., AAAI 2022; arXiv:2201.03019).

The replay is a component of its own, `replay`, which any method with a generator can have.
"""

from torch import Tensor, nn

from cpsc.config import DistillConfig
from cpsc.losses.confidence import class_imbalance, negative_activation, one_hot_loss
from cpsc.losses.disagreement import agreement_by_elementwise_divergence, agreement_by_jensen_shannon
from cpsc.losses.distillation import mean_absolute_difference
from cpsc.methods.base import LOG_BASES, AbstractMethod, Terms, View, active, computed

AGREEMENTS = {"jensen_shannon": agreement_by_jensen_shannon, "clamped": agreement_by_elementwise_divergence}


class PreDfkd(AbstractMethod):
    """Generator: DAFL's three terms and the student's disagreement, sec. 3.1. Student: mean absolute logit difference.

    An image can win by what the student says to it alone: the teacher's side of the disagreement carries no gradient.
    """

    TERMS = frozenset({"l1", "adversarial", "one_hot", "balance", "activation"})
    SWITCHES = frozenset({"balance_base", "disagreement"})

    def __init__(self, config: DistillConfig, *, teacher: nn.Module, student: nn.Module) -> None:
        del teacher, student
        super().__init__()
        weights = config.weights
        self.generator_weights = active(
            {
                "one_hot": weights.one_hot,
                "balance": weights.balance,
                "activation": weights.activation,
                "adversarial_agreement": weights.adversarial,
            }
        )
        self.student_weights = active({"l1": weights.l1})
        self.balance_base = LOG_BASES[config.switches.balance_base]
        self._agreement = AGREEMENTS[config.switches.disagreement]

    def generator_terms(self, view: View) -> Terms:
        teacher, student = view.teacher, view.student
        return computed(
            self.generator_weights,
            one_hot=lambda: one_hot_loss(teacher.logits),
            balance=lambda: class_imbalance(teacher.logits, base=self.balance_base),
            activation=lambda: negative_activation(teacher.features),
            adversarial_agreement=lambda: self._agreement(student.logits, teacher.logits.detach()),
        )

    def student_terms(self, view: View) -> Terms:
        difference: Tensor = mean_absolute_difference(view.student.logits, view.teacher.logits)
        return {"l1": difference}
