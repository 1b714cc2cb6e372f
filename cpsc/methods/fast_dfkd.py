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
    "meta_generator": {"redraw_after": 139},  # when turn 140 begins: 120 turns after the warm-up
}
FIVE_STEPS: Settings = {"generator": {"lr": 3e-3}, "schedule": {"generator_steps": 5}}
TWO_STEPS: Settings = {"generator": {"lr": 5e-3}, "schedule": {"generator_steps": 2}, "meta_generator": {"latent_lr": 0.015}}


class FastDfkd(PooledMethod):
    """A meta-generator gives the starting point of each batch, which then takes a few steps; it learns from these steps.

    The published code already uses the student in the last turn of the warm-up, before its first step; here no turn of the warm-up
    does.
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
