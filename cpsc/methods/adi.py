"""ADI: adaptive DeepInversion (Yin et al., CVPR 2020; arXiv:1912.08795)."""

from torch import Tensor, nn

from cpsc.config import DistillConfig
from cpsc.losses.disagreement import (
    agreement_by_clamped_divergence,
    agreement_by_jensen_shannon,
    agreement_by_unbounded_divergence,
)
from cpsc.losses.distillation import distillation_kl
from cpsc.losses.image_prior import image_norm, mean_total_variation, total_variation
from cpsc.losses.label import label_cross_entropy
from cpsc.losses.statistics import batch_statistics_distance
from cpsc.methods.base import AbstractMethod, BatchOutputs, Settings, Terms, active, computed
from cpsc.methods.published_settings import DEFAULT_BETAS, NO_TERMS, TOOLBOX_STUDENT
from cpsc.synthesis import InvertedBatches

AGREEMENTS = {
    "jensen_shannon": agreement_by_jensen_shannon,
    "clamped": agreement_by_clamped_divergence,
    "unbounded": agreement_by_unbounded_divergence,
}
TOTAL_VARIATIONS = {"norm": total_variation, "mean": mean_total_variation}

ORIGINAL: Settings = {
    "epochs": 100,  # of 10 batches each: 1000 batches of 256 images in total
    "distillation_temperature": 3.0,
    "weights": NO_TERMS
    | {"kl": 1.0, "adversarial": 10.0, "batch_statistics": 10.0, "label": 1.0, "total_variation": 2.5e-5, "image_norm": 3e-8},
    "student": {"weight_decay": 1e-4, "warmup_epochs": 0, "train_mode_in_generator_phase": False},
    "generator": {"lr": 0.05, "decay_lr": False, **DEFAULT_BETAS},
    "schedule": {"iterations": 10, "generator_steps": 2000, "student_steps": 50, "batch_size": 256},
}
TOOLBOX: Settings = {
    "epochs": 200,
    "distillation_temperature": 20.0,
    "weights": NO_TERMS | {"kl": 1.0, "adversarial": 1.0, "batch_statistics": 10.0, "label": 1.0, "total_variation": 1e-3},
    "student": dict(TOOLBOX_STUDENT),
    "generator": {"lr": 0.1, "decay_lr": False, "beta1": 0.5, "beta2": 0.99},
    "schedule": {"iterations": 1, "generator_steps": 1000, "student_steps": 400, "batch_size": 256},
    "inversion": {"labels": "random", "keep": "last", "clip": True, "jitter": None, "flip": True, "quantise": "truncate"},
    "switches": {"disagreement": "unbounded", "total_variation": "mean"},
}


class Adi(AbstractMethod):
    """Pixels: eq. 3 to 8, label, priors, batch-norm statistics and the student's disagreement. Student: KL on all images so far.

    The gradient of the disagreement reaches the pixels through both networks, as in the paper and in both published codes.
    """

    GENERATOR_TERMS = ("adversarial", "batch_statistics", "label", "total_variation", "image_norm")
    STUDENT_TERMS = ("kl",)
    ADVERSARIAL = {"adversarial": ("adversarial_agreement",)}
    LABEL_TERMS = ("label",)
    SWITCHES = frozenset({"disagreement", "total_variation", "image_prior"})
    SYNTHESIS = InvertedBatches
    PRESETS = {"original": (ORIGINAL,), "toolbox": (TOOLBOX,)}

    def __init__(self, config: DistillConfig, *, teacher: nn.Module, student: nn.Module) -> None:
        del teacher, student
        super().__init__()
        weights = config.weights
        self.generator_weights = active(
            {
                "label": weights.label,
                "batch_statistics": weights.batch_statistics,
                "total_variation": weights.total_variation,
                "image_norm": weights.image_norm,
                "adversarial_agreement": weights.adversarial,
            }
        )
        self.student_weights = active({"kl": weights.kl})
        self.temperature = config.distillation_temperature
        self._agreement = AGREEMENTS[config.switches.disagreement]
        self._total_variation = TOTAL_VARIATIONS[config.switches.total_variation]

    def generator_terms(self, view: BatchOutputs) -> Terms:
        return computed(
            self.generator_weights,
            label=lambda: label_cross_entropy(view.teacher.logits, view.labels),
            batch_statistics=lambda: batch_statistics_distance(view.observed, view.stored),
            total_variation=lambda: self._total_variation(_pixels(view)),
            image_norm=lambda: image_norm(_pixels(view)),
            adversarial_agreement=lambda: self._agreement(view.student.logits, view.teacher.logits),
        )

    def student_terms(self, view: BatchOutputs) -> Terms:
        return {"kl": distillation_kl(view.student.logits, view.teacher.logits, temperature=self.temperature)}


def _pixels(view: BatchOutputs) -> Tensor:
    assert view.pixels is not None  # the generator phase always has them
    return view.pixels
