"""Settings that presets of several methods share: no terms but their own, sizes of datasets, the DataFree toolbox."""

from typing import Any

from cpsc.config import LossWeights
from cpsc.methods.base import Settings

CIFAR_100, TINY_IMAGENET, IMAGENET = 100, 200, 1000
"""From so many classes on a teacher's dataset counts as of the size of these, for values that are published by dataset."""

NO_TERMS: dict[str, float] = dict.fromkeys(vars(LossWeights()), 0.0)
"""Of `weights`: what lies under the terms of a method, whose defaults are CPSC-DFKD's."""
DEFAULT_BETAS = {"beta1": 0.9, "beta2": 0.999}

TOOLBOX_STUDENT: Settings = {"weight_decay": 1e-4, "warmup_epochs": 0, "train_mode_in_generator_phase": False}
TOOLBOX_GENERATOR: Settings = {"family": "large", "decay_lr": False, "eval_mode_in_student_phase": True}


def toolbox(weights: Settings, *, student_steps: int, latent_dim: int = 256) -> dict[str, Any]:
    """A baseline with a generator: 400 student steps an epoch, as many to a generator step as said."""
    schedule = {"iterations": 400 // student_steps, "generator_steps": 1, "student_steps": student_steps, "batch_size": 256}
    return {
        "epochs": 200,
        "weights": NO_TERMS | dict(weights),
        "student": dict(TOOLBOX_STUDENT),
        "generator": {**TOOLBOX_GENERATOR, "latent_dim": latent_dim},
        "schedule": schedule,
    }
