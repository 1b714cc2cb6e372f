"""DFQ: data-free network quantization (Choi et al., CVPR Workshops 2020; arXiv:2005.04136), as a distillation baseline.

Quantisation is left out: the student is simply a smaller network.
"""

from torch import nn

from cpsc.config import DistillConfig
from cpsc.losses.confidence import class_imbalance, one_hot_loss
from cpsc.losses.distillation import distillation_kl
from cpsc.losses.statistics import batch_statistics_distance, gaussian_statistics_kl
from cpsc.methods.base import LOG_BASES, AbstractMethod, BatchOutputs, Settings, Terms, active, computed
from cpsc.methods.published_settings import toolbox

STATISTICS = {"norm": batch_statistics_distance, "gaussian": gaussian_statistics_kl}

WEIGHTS: Settings = {"kl": 1.0, "adversarial": 1.0, "batch_statistics": 1.0, "one_hot": 1.0, "balance": 20.0}
TOOLBOX = toolbox(WEIGHTS, student_steps=10)
ORIGINAL: Settings = {
    **TOOLBOX,
    "epochs": 250,
    "student": {"weight_decay": 1e-4, "warmup_epochs": 0, "nesterov": True},
    "generator": {"family": "large", "decay_lr": False},
    "schedule": {**TOOLBOX["schedule"], "generator_warmup_epochs": 50},
    "switches": {"statistics": "gaussian"},
}


class Dfq(AbstractMethod):
    """Generator: -KL, kept close to the data by batch-norm statistics, confidence and class balance. Student: KL."""

    GENERATOR_TERMS = ("adversarial", "batch_statistics", "one_hot", "balance")
    STUDENT_TERMS = ("kl",)
    ADVERSARIAL = {"adversarial": ("adversarial_kl",)}
    SWITCHES = frozenset({"balance_base", "statistics"})
    PRESETS = {"toolbox": (TOOLBOX,), "original": (ORIGINAL,)}  # the original's loss weights were not published

    def __init__(self, config: DistillConfig, *, teacher: nn.Module, student: nn.Module) -> None:
        del teacher, student
        super().__init__()
        weights = config.weights
        self.generator_weights = active(
            {
                "adversarial_kl": weights.adversarial * weights.kl,
                "batch_statistics": weights.batch_statistics,
                "one_hot": weights.one_hot,
                "balance": weights.balance,
            }
        )
        self.student_weights = active({"kl": weights.kl})
        self.temperature = config.distillation_temperature
        self.balance_base = LOG_BASES[config.switches.balance_base]
        self._statistics = STATISTICS[config.switches.statistics]

    def generator_terms(self, view: BatchOutputs) -> Terms:
        teacher, student = view.teacher, view.student
        return computed(
            self.generator_weights,
            adversarial_kl=lambda: -distillation_kl(student.logits, teacher.logits, temperature=self.temperature),
            batch_statistics=lambda: self._statistics(view.observed, view.stored),
            one_hot=lambda: one_hot_loss(teacher.logits),
            balance=lambda: class_imbalance(teacher.logits, base=self.balance_base),
        )

    def student_terms(self, view: BatchOutputs) -> Terms:
        return {"kl": distillation_kl(view.student.logits, view.teacher.logits, temperature=self.temperature)}
