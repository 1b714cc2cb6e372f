"""NAYER: noisy layer data generation (Tran et al., CVPR 2024; arXiv:2310.00258)."""

from cpsc.config import DistillConfig
from cpsc.methods.base import Settings
from cpsc.methods.pooled import POOLED, PooledMethod
from cpsc.methods.published_settings import CIFAR_100, TINY_IMAGENET
from cpsc.synthesis import InvertedByNoisyLayer, NoisyLayerConfig

ORIGINAL: Settings = {
    "generator": {"family": "small", "latent_dim": 1000, "lr": 4e-3, "decay_lr": False},
    "schedule": {
        "iterations": 1,
        "generator_turns": 2,
        "generator_steps": 30,
        "student_steps": 400,
        "batch_size": 400,
        "student_batch_size": 512,
        "generator_warmup_epochs": 20,
        "generator_warmup_turns": 10,
    },
    "inversion": {"quantise": "truncate"},
}
OF_CIFAR_100: Settings = {"schedule": {"generator_steps": 40}}
OF_TINY_IMAGENET: Settings = {
    "student": {"lr": 0.1},
    "schedule": {
        "generator_turns": 4,
        "generator_steps": 60,
        "student_steps": 1000,
        "batch_size": 200,
        "student_batch_size": 256,
        "generator_warmup_turns": 20,
    },
}


class Nayer(PooledMethod):
    """A fixed vector per class, a noisy layer that is redrawn for each batch, and a generator that is kept for some epochs.

    The published code puts the student back into training mode after the first of an epoch's turns, so that the other turns change
    its batch norms; here it stays frozen in all of them. On Tiny-ImageNet the published code mirrors none of the generator's views.
    """

    SECTIONS = {"noisy_layer": NoisyLayerConfig}
    SYNTHESIS = InvertedByNoisyLayer
    PRESETS = {"original": (POOLED, ORIGINAL)}
    BY_CLASSES = {"original": ((CIFAR_100, OF_CIFAR_100), (TINY_IMAGENET, OF_TINY_IMAGENET))}

    @staticmethod
    def statistics_momentum(config: DistillConfig) -> float:
        return config.section(NoisyLayerConfig).statistics_momentum
