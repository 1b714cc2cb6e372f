"""FastDFKD: a meta-generator for fast synthesis (Fang et al., AAAI 2022; arXiv:2112.06253)."""

from cpsc.config import DistillConfig
from cpsc.methods.base import Settings
from cpsc.methods.pooled import POOLED, PooledMethod
from cpsc.synthesis import InvertedByMetaGenerator, MetaGeneratorConfig

ORIGINAL: Settings = {
    "generator": {"family": "small", "latent_dim": 256, "lr": 2e-3, "decay_lr": False},
    "schedule": {
        "iterations": 1,
        "generator_steps": 10,
        "student_steps": 400,
        "batch_size": 256,
        "generator_warmup_epochs": 20,
    },
    "inversion": {"labels": "random", "quantise": "truncate"},
    "meta_generator": {"redraw_after": 139},  # as turn 140 begins: 120 after the warm-up
}
FIVE_STEPS: Settings = {"generator": {"lr": 3e-3}, "schedule": {"generator_steps": 5}}
TWO_STEPS: Settings = {"generator": {"lr": 5e-3}, "schedule": {"generator_steps": 2}, "meta_generator": {"latent_lr": 0.015}}


class FastDfkd(PooledMethod):
    """A batch begins where a meta-generator says, and takes a few steps; from these the meta-generator learns.

    The published code asks the student in the warm-up's last turn already, before its first step; here none of the warm-up does.
    """

    SECTIONS = {"meta_generator": MetaGeneratorConfig}
    SYNTHESIS = InvertedByMetaGenerator
    PRESETS = {
        "original": (POOLED, ORIGINAL),
        "five_steps": (POOLED, ORIGINAL, FIVE_STEPS),
        "two_steps": (POOLED, ORIGINAL, TWO_STEPS),
    }

    @staticmethod
    def statistics_momentum(config: DistillConfig) -> float:
        return config.section(MetaGeneratorConfig).statistics_momentum
