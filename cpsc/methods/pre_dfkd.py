"""PRE-DFKD: preventing distribution shift by generative pseudo replay (Binici et al., AAAI 2022; arXiv:2201.03019).

The replay is a separate component, `cpsc.replay`, which any method with a generator can use.
"""

from torch import Tensor, nn

from cpsc.config import DistillConfig
from cpsc.errors import ConfigError
from cpsc.losses.confidence import class_imbalance, negative_activation, one_hot_loss
from cpsc.losses.disagreement import agreement_by_elementwise_divergence, agreement_by_jensen_shannon
from cpsc.losses.distillation import mean_absolute_difference
from cpsc.methods.base import LOG_BASES, AbstractMethod, BatchOutputs, Settings, Terms, active, computed
from cpsc.methods.published_settings import DEFAULT_BETAS, NO_TERMS

AGREEMENTS = {"jensen_shannon": agreement_by_jensen_shannon, "clamped": agreement_by_elementwise_divergence}

ORIGINAL: Settings = {
    "epochs": 400,
    "weights": NO_TERMS | {"l1": 1.0, "adversarial": 1.0, "one_hot": 1.0, "balance": 5.0, "activation": 0.1},
    "student": {"warmup_epochs": 0},
    "generator": {"family": "pre", "latent_dim": 1000, "lr": 0.02, "decay_lr": False, **DEFAULT_BETAS},
    "schedule": {"iterations": 36, "generator_steps": 1, "student_steps": 10, "batch_size": 1024},
    "switches": {"balance_base": "10"},
    "replay": {"kind": "vae"},
}
REFERENCE: Settings = {
    "generator": {"spectral_norm": "cold"},
    "switches": {"disagreement": "clamped"},
    "replay": {"leak": True},
}


class PreDfkd(AbstractMethod):
    """Generator: DAFL's three terms and the student's disagreement, sec. 3.1. Student: mean absolute logit difference.

    Only the student's side of the disagreement carries a gradient to the images; the teacher's side is detached.
    """

    GENERATOR_TERMS = ("adversarial", "one_hot", "balance", "activation")
    STUDENT_TERMS = ("l1",)
    ADVERSARIAL = {"adversarial": ("adversarial_agreement",)}
    SWITCHES = frozenset({"balance_base", "disagreement"})
    PRESETS = {"original": (ORIGINAL,), "reference": (ORIGINAL, REFERENCE)}

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

    @classmethod
    def check(cls, config: DistillConfig) -> None:
        if (form := config.switches.disagreement) not in AGREEMENTS:
            known = ", ".join(AGREEMENTS)
            raise ConfigError(f"switches.disagreement must be one of {known} for method {config.method}, got {form!r}")

    def generator_terms(self, view: BatchOutputs) -> Terms:
        teacher, student = view.teacher, view.student
        return computed(
            self.generator_weights,
            one_hot=lambda: one_hot_loss(teacher.logits),
            balance=lambda: class_imbalance(teacher.logits, base=self.balance_base),
            activation=lambda: negative_activation(teacher.features),
            adversarial_agreement=lambda: self._agreement(student.logits, teacher.logits.detach()),
        )

    def student_terms(self, view: BatchOutputs) -> Terms:
        difference: Tensor = mean_absolute_difference(view.student.logits, view.teacher.logits)
        return {"l1": difference}
