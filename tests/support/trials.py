"""Trials of small networks on random images, without a study: what `local_trainable` runs."""

from typing import Any

import torch

from cpsc.data import Split
from cpsc.data.dataset import Normalisation
from cpsc.models import build_model
from cpsc.presets import preset
from cpsc.probe import ProbeConfig, synthesise
from cpsc.rng import seeded_init
from cpsc.teacher import Teacher
from tuning.storage import Storage
from tuning.study.base_config import BaseConfig
from tuning.trial.context import TrialContext

BASES: dict[str, dict[str, Any]] = {
    "paper": {},
    "reference": preset("reference", num_classes=10),
    "replay": {"replay": {"kind": "vae", "latent_dim": 8}},
    "no embedding": {"generator": {"embedding": "none"}},
}


def make_teacher() -> Teacher:
    """A teacher with random weights and batch-norm statistics that have seen something; wider than the student."""
    with seeded_init(0, "test teacher"):
        network = build_model("wrn_10_2", num_classes=5, channels=1)
        for _ in range(3):
            network(torch.randn(32, 1, 8, 8))
    return Teacher(
        arch="wrn_10_2",
        class_names=tuple("abcde"),
        channels=1,
        image_size=8,
        normalisation=Normalisation((0.5,), (0.25,)),
        dataset="noise",
        test_accuracy=0.2,
        state=network.state_dict(),
    )


def make_context(changes: dict[str, Any]) -> TrialContext:
    base = {
        "epochs": 4,
        "precision": "fp32",
        "student": {"arch": "wrn_10_1", "warmup_epochs": 1},
        "schedule": {"iterations": 3, "generator_steps": 2, "student_steps": 2, "batch_size": 10},
    }
    base["generator"] = {"width": 8, "latent_dim": 8, "milestones": [2]} | changes.get("generator", {})
    base |= {section: changes.get(section, {}) for section in ("cpsc", "replay")}
    teacher = make_teacher()
    probe = synthesise(teacher, ProbeConfig(num_images=20, batch_size=20, steps=2), torch.device("cpu"))
    rng = torch.Generator().manual_seed(0)
    test = Split(torch.randint(0, 256, (30, 1, 8, 8), generator=rng, dtype=torch.uint8), torch.arange(30) % 5)
    return TrialContext(
        base=BaseConfig(own=base),
        teacher=teacher,
        probe=probe,
        test=test,
        objective="probe_agreement",
        threads=1,
        device="cpu",
        gpus=0,
        storage=Storage("."),
    )
