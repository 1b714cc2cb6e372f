"""DFAD: data-free adversarial distillation (Fang et al. 2019; arXiv:1912.11006)."""

from torch import nn

from cpsc.config import DistillConfig
from cpsc.losses.distillation import mean_absolute_difference
from cpsc.methods.base import AbstractMethod, BatchOutputs, Settings, Terms
from cpsc.methods.published_settings import DEFAULT_BETAS, NO_TERMS, toolbox

ORIGINAL: Settings = {
    "epochs": 500,
    "weights": NO_TERMS | {"l1": 1.0, "adversarial": 1.0},
    # The published code steps its schedulers before each epoch: the milestones 100 and 200 are the first epochs at lower rates.
    "student": {"warmup_epochs": 0, "annealing": "milestones", "milestones": (99, 199)},
    "generator": {"family": "dfad", "milestones": (99, 199), **DEFAULT_BETAS},
    "schedule": {"iterations": 50, "generator_steps": 1, "student_steps": 5, "batch_size": 256, "order": "student_first"},
}


class Dfad(AbstractMethod):
    """A game over the mean absolute logit difference: the student lowers it, the generator raises it. Eq. 4 and 5."""

    GENERATOR_TERMS = ("adversarial",)
    STUDENT_TERMS = ("l1",)
    ADVERSARIAL = {"adversarial": ("adversarial_l1",)}
    PRESETS = {"original": (ORIGINAL,), "toolbox": (toolbox({"l1": 1.0, "adversarial": 1.0}, student_steps=5),)}

    def __init__(self, config: DistillConfig, *, teacher: nn.Module, student: nn.Module) -> None:
        del teacher, student
        super().__init__()
        self.generator_weights = {"adversarial_l1": config.weights.adversarial * config.weights.l1}
        self.student_weights = {"l1": config.weights.l1}

    def generator_terms(self, view: BatchOutputs) -> Terms:
        return {"adversarial_l1": -mean_absolute_difference(view.student.logits, view.teacher.logits)}

    def student_terms(self, view: BatchOutputs) -> Terms:
        return {"l1": mean_absolute_difference(view.student.logits, view.teacher.logits)}
