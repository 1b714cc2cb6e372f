"""What NAYER and FastDFKD share: CMI's terms without its contrast, with statistics averaged over earlier turns."""

from abc import abstractmethod
from collections.abc import Sequence

from torch import nn

from cpsc.config import DistillConfig
from cpsc.losses.distillation import decision_kl, distillation_kl
from cpsc.losses.label import label_cross_entropy
from cpsc.losses.statistics import batch_statistics_distance
from cpsc.memory import StatisticsMemory
from cpsc.methods.base import AbstractMethod, BatchOutputs, Settings, Terms, active, computed
from cpsc.methods.published_settings import NO_TERMS, TOOLBOX_STUDENT
from cpsc.statistics import ChannelStatistics, batch_norm_layers, num_norm_channels

POOLED: Settings = {
    "epochs": 220,
    "distillation_temperature": 20.0,
    "weights": NO_TERMS | {"kl": 1.0, "adversarial": 1.33, "batch_statistics": 10.0, "label": 0.5},
    "student": {**TOOLBOX_STUDENT, "lr": 0.2, "final_lr_fraction": 1e-3},
}
"""Base of the published settings of both methods."""


class PooledMethod(AbstractMethod):
    """Images: label, batch-norm statistics averaged over earlier turns, and the student's decisions to overturn. Student: KL."""

    GENERATOR_TERMS = ("adversarial", "batch_statistics", "label")
    STUDENT_TERMS = ("kl",)
    ADVERSARIAL = {"adversarial": ("adversarial_decision",)}
    LABEL_TERMS = ("label",)

    def __init__(self, config: DistillConfig, *, teacher: nn.Module, student: nn.Module) -> None:
        del student
        super().__init__()
        weights = config.weights
        self.generator_weights = active(
            {
                "label": weights.label,
                "batch_statistics": weights.batch_statistics,
                "adversarial_decision": weights.adversarial,
            }
        )
        self.student_weights = active({"kl": weights.kl})
        self.temperature = config.distillation_temperature
        self.statistics: StatisticsMemory | None = None
        if self.needs_statistics:
            sizes = [num_norm_channels(layer) for layer in batch_norm_layers(teacher)]
            self.statistics = StatisticsMemory(sizes, momentum=self.statistics_momentum(config))
        self._latest: Sequence[ChannelStatistics | None] = ()

    @staticmethod
    @abstractmethod
    def statistics_momentum(config: DistillConfig) -> float:
        """Weight of earlier turns in the statistics that are compared."""

    def generator_terms(self, view: BatchOutputs) -> Terms:
        self._latest = [seen and ChannelStatistics(seen.mean.detach(), seen.var.detach()) for seen in view.observed]
        return computed(
            self.generator_weights,
            label=lambda: label_cross_entropy(view.teacher.logits, view.labels),
            batch_statistics=lambda: batch_statistics_distance(self._blended(view), view.stored),
            adversarial_decision=lambda: -decision_kl(view.student.logits, view.teacher.logits),
        )

    def student_terms(self, view: BatchOutputs) -> Terms:
        return {"kl": distillation_kl(view.student.logits, view.teacher.logits, temperature=self.temperature)}

    def end_turn(self) -> None:
        if self.statistics is not None:
            self.statistics.keep(self._latest)
        self._latest = ()

    def _blended(self, view: BatchOutputs) -> Sequence[ChannelStatistics | None]:
        assert self.statistics is not None
        return self.statistics.blended(view.observed)
