"""A study small enough to run in seconds."""

from pathlib import Path
from typing import Any

import yaml

ROOT = Path(__file__).parents[2]


def tiny_study() -> dict[str, Any]:
    """Digits with networks and budgets so small that only the machinery is left to test."""
    return {
        "name": "tiny",
        "config": {
            "dataset": "digits",
            "teacher": {"arch": "wrn_10_1", "epochs": 1, "batch_size": 64, "warmup_epochs": 0},
            "probe": {"num_images": 20, "batch_size": 20, "steps": 2},
            "student": {"arch": "wrn_10_1", "warmup_epochs": 1},
            "generator": {"width": 8, "latent_dim": 16},
            "schedule": {"iterations": 2, "generator_steps": 1, "student_steps": 2, "batch_size": 16},
            "epochs": 3,
            "precision": "fp32",
        },
        "space": {"weights.l2": {"loguniform": [0.1, 10]}, "contrast_temperature": {"uniform": [0.05, 1.0]}},
        "start": [{"weights.l2": 1.0}],
        "objective": "probe_agreement",  # without examiners, whose training would be most of a sweep as small as this
        "search": {"num_trials": 4, "startup_trials": 2},
        "prune": {"grace_epochs": 1, "reduction_factor": 2},
    }


def write_study(path: Path, study: dict[str, Any]) -> Path:
    """The study as a file."""
    path.write_text(yaml.safe_dump(study), encoding="utf-8")
    return path
