"""The settings that each method was published with, by method and preset: what lies under a user's own.

`paper` and `original` are what a method's authors describe; `reference` is what CPSC-DFKD's and PRE-DFKD's published code
does instead; `toolbox` is the DataFree toolbox's form of a baseline, which most published tables report. A method's first
preset is its default.
"""

from collections.abc import Mapping
from typing import Any

from cpsc.config import LossWeights
from cpsc.errors import ConfigError

Settings = Mapping[str, Any]

CIFAR_100, TINY_IMAGENET, IMAGENET = 100, 200, 1000
"""From so many classes on a teacher's dataset counts as of the size of these, for values that are published by dataset."""

NO_TERMS: dict[str, float] = dict.fromkeys(vars(LossWeights()), 0.0)
DEFAULT_BETAS = {"beta1": 0.9, "beta2": 0.999}

CPSC_REFERENCE: Settings = {
    "generator": {"optimizer": "fresh", "decay_lr": False},
    "cpsc": {
        "label_input": "probs",
        "l2": "log_mse",
        "l2_detach_teacher": True,
        "contrast": "two_view",
        "contrast_base_temperature": 0.07,
        "adapter_renormalise": False,
        "adapter_train": False,
    },
}
CPSC_REFERENCE_CIFAR_100: Settings = {"cpsc": {"l2": "mse"}}  # the published code switches the form on the dataset's name
CPSC_BATCHES: tuple[tuple[int, Settings], ...] = (
    (TINY_IMAGENET, {"schedule": {"batch_size": 256}}),
    (IMAGENET, {"schedule": {"batch_size": 64}}),
)

PRE_ORIGINAL: Settings = {
    "epochs": 400,
    "weights": NO_TERMS | {"l1": 1.0, "adversarial": 1.0, "one_hot": 1.0, "balance": 5.0, "activation": 0.1},
    "student": {"warmup_epochs": 0},
    "generator": {"family": "pre", "latent_dim": 1000, "lr": 0.02, "decay_lr": False, **DEFAULT_BETAS},
    "schedule": {"iterations": 36, "generator_steps": 1, "student_steps": 10, "batch_size": 1024},
    "switches": {"balance_base": "10"},
    "replay": {"kind": "vae"},
}
PRE_REFERENCE: Settings = {
    "generator": {"spectral_norm": "cold"},
    "switches": {"disagreement": "clamped"},
    "replay": {"leak": True},
}

DAFL_ORIGINAL: Settings = {
    "epochs": 2000,
    "weights": NO_TERMS | {"kl": 1.0, "one_hot": 0.05, "balance": 5.0, "activation": 0.01},
    "student": {"warmup_epochs": 0, "annealing": "milestones", "milestones": (800, 1600)},
    "generator": {"family": "dafl", "latent_dim": 1000, "lr": 0.02, "decay_lr": False, **DEFAULT_BETAS},
    "schedule": {"iterations": 120, "generator_steps": 1, "student_steps": 1, "batch_size": 1024, "student_images": "shared"},
    "switches": {"balance_base": "10"},
}
DAFL_ORIGINAL_CIFAR_100: Settings = {"weights": {"one_hot": 0.5, "balance": 20.0, "activation": 0.1}}

ZSKT_ORIGINAL: Settings = {
    "epochs": 100,  # the 80,000 pseudo-batches are evaluated 100 times
    "weights": NO_TERMS | {"kl": 1.0, "adversarial": 1.0, "attention": 250.0},
    "student": {"optimizer": "adam", "lr": 2e-3, "weight_decay": 0.0, "warmup_epochs": 0, "clip_norm": 5.0},
    "generator": {"family": "zskt", "latent_dim": 100, "annealing": "cosine", "clip_norm": 5.0, **DEFAULT_BETAS},
    "schedule": {
        "iterations": 800,
        "generator_steps": 1,
        "student_steps": 10,
        "batch_size": 128,
        "student_images": "regenerated",
    },
    "switches": {"kl_mean": "element"},
}

DFAD_ORIGINAL: Settings = {
    "epochs": 500,
    "weights": NO_TERMS | {"l1": 1.0, "adversarial": 1.0},
    # Its schedulers step before an epoch is trained: the milestones 100 and 200 are the first epochs at the lower rates.
    "student": {"warmup_epochs": 0, "annealing": "milestones", "milestones": (99, 199)},
    "generator": {"family": "dfad", "milestones": (99, 199), **DEFAULT_BETAS},
    "schedule": {"iterations": 50, "generator_steps": 1, "student_steps": 5, "batch_size": 256, "order": "student_first"},
}

TOOLBOX_STUDENT: Settings = {"weight_decay": 1e-4, "warmup_epochs": 0, "train_mode_in_generator_phase": False}
TOOLBOX_GENERATOR: Settings = {"family": "large", "decay_lr": False, "eval_mode_in_student_phase": True}


def _toolbox(weights: Settings, *, student_steps: int, latent_dim: int = 256) -> dict[str, Any]:
    """A baseline with a generator: 400 student steps an epoch, as many to a generator step as said."""
    schedule = {"iterations": 400 // student_steps, "generator_steps": 1, "student_steps": student_steps, "batch_size": 256}
    return {
        "epochs": 200,
        "weights": NO_TERMS | dict(weights),
        "student": dict(TOOLBOX_STUDENT),
        "generator": {**TOOLBOX_GENERATOR, "latent_dim": latent_dim},
        "schedule": schedule,
    }


ADI_ORIGINAL: Settings = {
    "epochs": 100,  # of 10 batches each: 1000 batches of 256 images in all
    "distillation_temperature": 3.0,
    "weights": NO_TERMS
    | {"kl": 1.0, "adversarial": 10.0, "batch_statistics": 10.0, "label": 1.0, "total_variation": 2.5e-5, "image_norm": 3e-8},
    "student": {"weight_decay": 1e-4, "warmup_epochs": 0, "train_mode_in_generator_phase": False},
    "generator": {"lr": 0.05, "decay_lr": False, **DEFAULT_BETAS},
    "schedule": {"iterations": 10, "generator_steps": 2000, "student_steps": 50, "batch_size": 256},
}
ADI_TOOLBOX: Settings = {
    "epochs": 200,
    "distillation_temperature": 20.0,
    "weights": NO_TERMS | {"kl": 1.0, "adversarial": 1.0, "batch_statistics": 10.0, "label": 1.0, "total_variation": 1e-3},
    "student": dict(TOOLBOX_STUDENT),
    "generator": {"lr": 0.1, "decay_lr": False, "beta1": 0.5, "beta2": 0.99},
    "schedule": {"iterations": 1, "generator_steps": 1000, "student_steps": 400, "batch_size": 256},
    "inversion": {"labels": "random", "keep": "last", "clip": True, "jitter": None, "flip": True, "quantise": "truncate"},
    "switches": {"disagreement": "unbounded", "total_variation": "mean"},
}

DFQ_TERMS: Settings = {"kl": 1.0, "adversarial": 1.0, "batch_statistics": 1.0, "one_hot": 1.0, "balance": 20.0}
DFQ_TOOLBOX = _toolbox(DFQ_TERMS, student_steps=10)
DFQ_ORIGINAL: Settings = {
    **DFQ_TOOLBOX,
    "epochs": 250,
    "student": {"weight_decay": 1e-4, "warmup_epochs": 0, "nesterov": True},
    "generator": {"family": "large", "decay_lr": False},
    "schedule": {**DFQ_TOOLBOX["schedule"], "generator_warmup_epochs": 50},
    "switches": {"statistics": "gaussian"},
}

CMI_TOOLBOX: Settings = {
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

PRESETS: Mapping[str, Mapping[str, tuple[Settings, ...]]] = {
    "cpsc": {"paper": (), "reference": (CPSC_REFERENCE,)},
    "pre_dfkd": {"original": (PRE_ORIGINAL,), "reference": (PRE_ORIGINAL, PRE_REFERENCE)},
    "dafl": {
        "original": (DAFL_ORIGINAL,),
        "toolbox": (_toolbox({"kl": 1.0, "one_hot": 1.0, "balance": 20.0, "activation": 1e-3}, student_steps=5, latent_dim=512),),
    },
    "zskt": {"original": (ZSKT_ORIGINAL,), "toolbox": (_toolbox({"kl": 1.0, "adversarial": 1.0}, student_steps=5),)},
    "dfad": {"original": (DFAD_ORIGINAL,), "toolbox": (_toolbox({"l1": 1.0, "adversarial": 1.0}, student_steps=5),)},
    "adi": {"original": (ADI_ORIGINAL,), "toolbox": (ADI_TOOLBOX,)},
    "dfq": {"toolbox": (DFQ_TOOLBOX,), "original": (DFQ_ORIGINAL,)},  # of the original, the losses' weights are not known
    "cmi": {"toolbox": (CMI_TOOLBOX,), "original": (CMI_TOOLBOX,)},  # the toolbox is the authors' own code
}
BY_CLASSES: Mapping[tuple[str, str], tuple[tuple[int, Settings], ...]] = {
    ("cpsc", "paper"): CPSC_BATCHES,
    ("cpsc", "reference"): ((CIFAR_100, CPSC_REFERENCE_CIFAR_100), *CPSC_BATCHES),
    ("dafl", "original"): ((CIFAR_100, DAFL_ORIGINAL_CIFAR_100),),
}
"""What a preset changes further from so many classes on, by method and preset; the fewest first."""


def preset(name: str | None = None, *, method: str = "cpsc", num_classes: int) -> dict[str, Any]:
    """What preset `name` (default: the method's first) changes of `DistillConfig`, nested: to lay under a user's own settings."""
    if method not in PRESETS:
        raise ConfigError(f"method {method!r}: unknown, use one of {', '.join(PRESETS)}")
    known = PRESETS[method]
    name = name or next(iter(known))
    if name not in known:
        raise ConfigError(f"preset {name!r}: unknown for method {method}, use one of {', '.join(known)}")
    layers = [*known[name], *(layer for least, layer in BY_CLASSES.get((method, name), ()) if num_classes >= least)]
    changes: dict[str, Any] = {}
    for layer in layers:
        for key, value in layer.items():
            changes[key] = {**changes.get(key, {}), **value} if isinstance(value, Mapping) else value
    return changes
