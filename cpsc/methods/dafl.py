"""DAFL: data-free learning of student networks (Chen et al., ICCV 2019; arXiv:1904.01186)."""

from torch import nn

from cpsc.config import DistillConfig
from cpsc.losses.confidence import class_imbalance, negative_activation, one_hot_loss
from cpsc.losses.distillation import distillation_kl
from cpsc.methods.base import LOG_BASES, AbstractMethod, BatchOutputs, Settings, Terms, active, computed
from cpsc.methods.published_settings import CIFAR_100, DEFAULT_BETAS, NO_TERMS, toolbox

ORIGINAL: Settings = {
    "epochs": 2000,
    "weights": NO_TERMS | {"kl": 1.0, "one_hot": 0.05, "balance": 5.0, "activation": 0.01},
    "student": {"warmup_epochs": 0, "annealing": "milestones", "milestones": (800, 1600)},
    "generator": {"family": "dafl", "latent_dim": 1000, "lr": 0.02, "decay_lr": False, **DEFAULT_BETAS},
    "schedule": {"iterations": 120, "generator_steps": 1, "student_steps": 1, "batch_size": 1024, "student_images": "shared"},
    "switches": {"balance_base": "10"},
}
ORIGINAL_CIFAR_100: Settings = {"weights": {"one_hot": 0.5, "balance": 20.0, "activation": 0.1}}
TOOLBOX = toolbox({"kl": 1.0, "one_hot": 1.0, "balance": 20.0, "activation": 1e-3}, student_steps=5, latent_dim=512)


class Dafl(AbstractMethod):
    """Generator: eq. 5, images on which the teacher is confident, strongly activated and class-balanced. Student: KL.

    The student plays no part in making the images.
    """

    GENERATOR_TERMS = ("one_hot", "balance", "activation")
    STUDENT_TERMS = ("kl",)
    SWITCHES = frozenset({"balance_base"})
    PRESETS = {"original": (ORIGINAL,), "toolbox": (TOOLBOX,)}
    BY_CLASSES = {"original": ((CIFAR_100, ORIGINAL_CIFAR_100),)}

    def __init__(self, config: DistillConfig, *, teacher: nn.Module, student: nn.Module) -> None:
        del teacher, student
        super().__init__()
        weights = config.weights
        self.generator_weights = active({"one_hot": weights.one_hot, "balance": weights.balance, "activation": weights.activation})
        self.student_weights = active({"kl": weights.kl})
        self.temperature = config.distillation_temperature
        self.balance_base = LOG_BASES[config.switches.balance_base]

    def generator_terms(self, view: BatchOutputs) -> Terms:
        teacher = view.teacher
        return computed(
            self.generator_weights,
            one_hot=lambda: one_hot_loss(teacher.logits),
            balance=lambda: class_imbalance(teacher.logits, base=self.balance_base),
            activation=lambda: negative_activation(teacher.features),
        )

    def student_terms(self, view: BatchOutputs) -> Terms:
        return {"kl": distillation_kl(view.student.logits, view.teacher.logits, temperature=self.temperature)}
