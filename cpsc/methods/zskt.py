"""ZSKT: zero-shot knowledge transfer by adversarial belief matching (Micaelli and Storkey, NeurIPS 2019; arXiv:1905.09768)."""

from torch import Tensor, nn

from cpsc.config import DistillConfig
from cpsc.losses.attention import attention_distance
from cpsc.losses.distillation import distillation_kl
from cpsc.methods.base import AbstractMethod, BatchOutputs, Settings, Terms, active, computed
from cpsc.methods.published_settings import DEFAULT_BETAS, NO_TERMS, toolbox

ORIGINAL: Settings = {
    "epochs": 100,  # the published run evaluates 100 times in 80,000 pseudo-batches
    "weights": NO_TERMS | {"kl": 1.0, "adversarial": 1.0, "attention": 250.0},
    "student": {"optimizer": "adam", "lr": 2e-3, "weight_decay": 0.0, "warmup_epochs": 0, "clip_norm": 5.0},
    "generator": {"family": "zskt", "latent_dim": 100, "annealing": "cosine", "clip_norm": 5.0, **DEFAULT_BETAS},
    "schedule": {
        "iterations": 800,
        "generator_steps": 1,
        "student_steps": 10,
        "batch_size": 128,
        "student_images": "regenerated",
    },
    "switches": {"kl_mean": "element"},
}


class Zskt(AbstractMethod):
    """Generator: -KL. Student: KL and attention transfer, eq. 1 and 2."""

    GENERATOR_TERMS = ("adversarial",)
    STUDENT_TERMS = ("kl", "attention")
    ADVERSARIAL = {"adversarial": ("adversarial_kl",)}
    SWITCHES = frozenset({"kl_mean"})
    PRESETS = {"original": (ORIGINAL,), "toolbox": (toolbox({"kl": 1.0, "adversarial": 1.0}, student_steps=5),)}

    def __init__(self, config: DistillConfig, *, teacher: nn.Module, student: nn.Module) -> None:
        del teacher, student
        super().__init__()
        weights = config.weights
        self.generator_weights = active({"adversarial_kl": weights.adversarial * weights.kl})
        self.student_weights = active({"kl": weights.kl, "attention": weights.attention})
        self.temperature = config.distillation_temperature
        self.kl_mean = config.switches.kl_mean

    def generator_terms(self, view: BatchOutputs) -> Terms:
        return {"adversarial_kl": -self._kl(view)}

    def student_terms(self, view: BatchOutputs) -> Terms:
        return computed(
            self.student_weights,
            kl=lambda: self._kl(view),
            attention=lambda: attention_distance(*view.attention),
        )

    def _kl(self, view: BatchOutputs) -> Tensor:
        divergence = distillation_kl(view.student.logits, view.teacher.logits, temperature=self.temperature)
        return divergence / view.teacher.logits.shape[1] if self.kl_mean == "element" else divergence
