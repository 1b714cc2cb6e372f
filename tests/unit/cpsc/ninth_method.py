"""A method from outside the package, with a term and a section of its own: images on which the student is in doubt."""

from dataclasses import dataclass
from typing import ClassVar

from torch import nn
from torch.nn import functional as F

from cpsc.config import DistillConfig
from cpsc.losses.confidence import one_hot_loss
from cpsc.losses.distillation import distillation_kl
from cpsc.methods import NO_TERMS, AbstractMethod, BatchOutputs, Terms


@dataclass(frozen=True, kw_only=True)
class DoubtConfig:
    temperature: float = 2.0


class Doubt(AbstractMethod):
    GENERATOR_TERMS = ("doubt", "one_hot")
    STUDENT_TERMS = ("kl",)
    ADVERSARIAL: ClassVar = {"doubt": ("doubt",)}
    SECTIONS: ClassVar = {"doubting": DoubtConfig}
    PRESETS: ClassVar = {"original": ({"weights": NO_TERMS | {"doubt": 0.5, "one_hot": 1.0, "kl": 1.0}},)}

    def __init__(self, config: DistillConfig, *, teacher: nn.Module, student: nn.Module) -> None:
        super().__init__()
        self.generator_weights = {"doubt": config.weights["doubt"], "one_hot": config.weights.one_hot}
        self.student_weights = {"kl": config.weights.kl}
        self.temperature = config.section(DoubtConfig).temperature

    def generator_terms(self, view: BatchOutputs) -> Terms:
        log_probs = F.log_softmax(view.student.logits / self.temperature, dim=1)
        return {"doubt": (log_probs.exp() * log_probs).sum(dim=1), "one_hot": one_hot_loss(view.teacher.logits)}

    def student_terms(self, view: BatchOutputs) -> Terms:
        return {"kl": distillation_kl(view.student.logits, view.teacher.logits, temperature=1.0)}
