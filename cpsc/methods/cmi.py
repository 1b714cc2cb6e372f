"""CMI: contrastive model inversion (Fang et al., IJCAI 2021; arXiv:2105.08584)."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from cpsc.config import DistillConfig, ScheduleConfig
from cpsc.kinds import is_count, of_stated_kinds
from cpsc.losses.distillation import decision_kl, distillation_kl
from cpsc.losses.instance_contrast import instance_discrimination
from cpsc.losses.label import label_cross_entropy
from cpsc.losses.statistics import batch_statistics_distance
from cpsc.memory import FeatureBank
from cpsc.methods.base import AbstractMethod, BatchOutputs, Settings, Terms, active, computed, num_input_channels, stages
from cpsc.methods.published_settings import NO_TERMS, TOOLBOX_STUDENT
from cpsc.rng import stream
from cpsc.rules import FORBID_UNKNOWN, at_most, positive, require
from cpsc.statistics import batch_norm_layers, num_norm_channels
from cpsc.synthesis import InvertedByGenerator

MAX_FEATURES = 5000
"""With more batch-norm channels than this (ResNet-34) the inputs of the stages are compared instead, as in the published code."""

TOOLBOX: Settings = {
    "epochs": 200,
    "distillation_temperature": 20.0,
    "contrast_temperature": 0.1,
    "weights": NO_TERMS | {"kl": 1.0, "adversarial": 0.5, "batch_statistics": 1.0, "label": 1.0, "contrast": 0.8},
    "student": dict(TOOLBOX_STUDENT),
    "generator": {"family": "small", "decay_lr": False},
    "schedule": {
        "iterations": 1,
        "generator_steps": 200,
        "student_steps": 400,
        "batch_size": 256,
        "student_batch_size": 128,
    },
    "inversion": {"labels": "random", "quantise": "truncate"},
}


@dataclass(frozen=True, kw_only=True)
@of_stated_kinds("cmi")
class CmiConfig:
    """CMI's contrast between images."""

    __pydantic_config__: ClassVar[dict[str, Any]] = FORBID_UNKNOWN

    bank_size: int = 40_960
    """Number of images whose features are remembered; the oldest are dropped first."""
    candidates: int = 4096
    """Largest number of remembered images that a step contrasts the new ones with."""
    projection_dim: int = 256

    def __post_init__(self) -> None:
        for name in ("bank_size", "candidates", "projection_dim"):
            positive(f"cmi.{name}", getattr(self, name))
            at_most(f"cmi.{name}", getattr(self, name), 10_000_000)


class Cmi(AbstractMethod):
    """Images: label, batch-norm statistics, the student's decisions to overturn, and contrast with all earlier images, sec. 3.

    Student: KL on all images so far. The projection head and the feature bank are kept across batches.
    """

    GENERATOR_TERMS = ("adversarial", "batch_statistics", "contrast", "label")
    STUDENT_TERMS = ("kl",)
    ADVERSARIAL = {"adversarial": ("adversarial_decision",)}
    LABEL_TERMS = ("label",)
    NORM_TERMS = ("contrast",)
    SECTIONS = {"cmi": CmiConfig}
    SYNTHESIS = InvertedByGenerator
    PRESETS = {"toolbox": (TOOLBOX,), "original": (TOOLBOX,)}  # the toolbox is the authors' own code

    def __init__(self, config: DistillConfig, *, teacher: nn.Module, student: nn.Module) -> None:
        del student
        super().__init__()
        weights, settings = config.weights, config.section(CmiConfig)
        self.generator_weights = active(
            {
                "label": weights.label,
                "batch_statistics": weights.batch_statistics,
                "adversarial_decision": weights.adversarial,
                "contrast": weights.contrast,
            }
        )
        self.student_weights = active({"kl": weights.kl})
        self.temperature = config.distillation_temperature
        self.contrast_temperature = config.contrast_temperature
        self._num_candidates = settings.candidates
        self._layers: Sequence[nn.Module] = feature_layers(teacher) if weights.contrast else ()
        self.head: nn.Module | None = None
        self.bank: FeatureBank | None = None
        if self._layers:
            dim = sum(num_input_channels(layer) for layer in self._layers)
            self.head = nn.Sequential(nn.Linear(dim, dim), nn.ReLU(), nn.Linear(dim, settings.projection_dim))
            self.bank = FeatureBank(size=settings.bank_size, dim=dim, rng=stream(config.seed, "bank"))
        self._latest: tuple[Tensor, ...] = ()
        self._best: tuple[Tensor, ...] = ()

    @classmethod
    def fitting_defaults(cls, settings: Mapping[str, Settings]) -> dict[tuple[str, str], Any]:
        batch = settings.get("schedule", {}).get("batch_size", ScheduleConfig.batch_size)
        fits = not is_count(batch) or CmiConfig.bank_size % batch == 0
        return {} if fits else {("cmi", "bank_size"): max(1, CmiConfig.bank_size // batch) * batch}

    @classmethod
    def check(cls, config: DistillConfig) -> None:
        size, batch = config.section(CmiConfig).bank_size, config.schedule.batch_size
        require(size % batch == 0, "cmi.bank_size", size, f"a multiple of schedule.batch_size ({batch})")

    @property
    def feature_layers(self) -> Sequence[nn.Module]:
        return self._layers

    @property
    def generator_heads(self) -> tuple[nn.Module, ...]:
        return () if self.head is None else (self.head,)

    @property
    def num_stored_bytes(self) -> int:
        return 0 if self.bank is None else self.bank.num_bytes

    def generator_terms(self, view: BatchOutputs) -> Terms:
        teacher, student = view.teacher, view.student
        return computed(
            self.generator_weights,
            label=lambda: label_cross_entropy(teacher.logits, view.labels),
            batch_statistics=lambda: batch_statistics_distance(view.observed, view.stored),
            adversarial_decision=lambda: -decision_kl(student.logits, teacher.logits),
            contrast=lambda: self._contrast(view),
        )

    def student_terms(self, view: BatchOutputs) -> Terms:
        return {"kl": distillation_kl(view.student.logits, view.teacher.logits, temperature=self.temperature)}

    def on_improvement(self, improved: Tensor | None) -> None:
        if not self._best or improved is None:
            self._best = self._latest
        else:
            self._best = tuple(torch.where(improved, new, old) for new, old in zip(self._latest, self._best, strict=True))

    def end_turn(self) -> None:
        if self.bank is not None:
            self.bank.add(*self._best)
        self._latest = self._best = ()

    def _contrast(self, view: BatchOutputs) -> Tensor:
        assert self.bank is not None
        self._latest = tuple(means.detach() for means in view.channel_means)
        sides = zip(view.channel_means, self.bank.draw(self._num_candidates), strict=True)
        local, global_ = (self._project(torch.cat([new, remembered])) for new, remembered in sides)
        return instance_discrimination(local, global_, num_new=len(view.labels), temperature=self.contrast_temperature)

    def _project(self, features: Tensor) -> Tensor:
        assert self.head is not None
        return F.normalize(self.head(features), dim=1)


def feature_layers(teacher: nn.Module) -> Sequence[nn.Module]:
    """The layers of `teacher` whose input channel means describe an image: all batch norms, or the stages if these are too many."""
    norms = batch_norm_layers(teacher, weight="weights.contrast")
    is_wide = sum(map(num_norm_channels, norms)) > MAX_FEATURES
    return stages(teacher) if is_wide and stages(teacher) else norms
