"""Settings shared by the presets of several methods: all weights at 0, sizes of datasets, and those of the DataFree toolbox."""

from typing import Any

from cpsc.config import LossWeights
from cpsc.methods.base import Settings

CIFAR_100, TINY_IMAGENET, IMAGENET = 100, 200, 1000
"""Number of classes from which on a teacher's dataset gets the values that were published for this dataset."""

NO_TERMS: dict[str, float] = dict.fromkeys(vars(LossWeights()), 0.0)
"""All `weights` at 0, as a base for the terms of a method; the defaults of `LossWeights` are those of CPSC-DFKD."""
DEFAULT_BETAS = {"beta1": 0.9, "beta2": 0.999}

TOOLBOX_STUDENT: Settings = {"weight_decay": 1e-4, "warmup_epochs": 0, "train_mode_in_generator_phase": False}
TOOLBOX_GENERATOR: Settings = {"family": "large", "decay_lr": False, "eval_mode_in_student_phase": True}


def toolbox(weights: Settings, *, student_steps: int, latent_dim: int = 256) -> dict[str, Any]:
    """A baseline with a generator: 400 student steps per epoch, `student_steps` of them per generator step."""
    schedule = {"iterations": 400 // student_steps, "generator_steps": 1, "student_steps": student_steps, "batch_size": 256}
    return {
        "epochs": 200,
        "weights": NO_TERMS | dict(weights),
        "student": dict(TOOLBOX_STUDENT),
        "generator": {**TOOLBOX_GENERATOR, "latent_dim": latent_dim},
        "schedule": schedule,
    }
