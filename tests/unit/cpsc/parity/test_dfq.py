"""DFQ as a distillation baseline (methods, sec. 8): the toolbox's losses, and the paper's statistics as Gaussians."""

import pytest
import torch
from torch import Tensor

from tests.unit.cpsc.parity.stage import (
    CLASSES,
    GAINS,
    Scene,
    Stated,
    assert_parity,
    built,
    confidence,
    generator_scene,
    imbalance,
    mean_divergence,
    preset_of,
    statistics_gap,
    student_scene,
)


def gaussian_gap(scene: Scene) -> Tensor:
    """Over layers and channels: KL of the batch's normal distribution to the stored one."""
    total = torch.tensor(0.0)
    for x, norm in zip(scene.entering, scene.norms, strict=True):
        for channel in range(x.shape[1]):
            values, mean, variance = x[:, channel], norm.running_mean[channel], norm.running_var[channel]
            own = values.sum() / values.numel()
            spread = ((values - own) ** 2).sum() / values.numel()
            total = total + ((own - mean) ** 2 + spread) / (2.0 * variance) - (spread / variance).log() / 2.0 - 0.5
    return total


def generator(scene: Scene, preset: str) -> Stated:
    t, s = scene.teacher.logits, scene.student.logits
    statistics = statistics_gap(scene.entering, scene.norms) if preset == "toolbox" else gaussian_gap(scene)
    return {
        "adversarial_kl": (1.0, -mean_divergence(t, s)),
        "batch_statistics": (1.0, statistics),
        "one_hot": (1.0, confidence(t)),
        "balance": (20.0, imbalance(t)),
    }


@pytest.mark.parametrize("classes", CLASSES)
@pytest.mark.parametrize("kind", GAINS)
@pytest.mark.parametrize("preset", ["toolbox", "original"])
def test_the_generators_terms(preset: str, kind: str, classes: int) -> None:
    scene, method = generator_scene(classes, kind), built(preset_of("dfq", preset, classes), classes)
    assert_parity(method.generator_terms(scene.view), method.generator_weights, generator(scene, preset), scene.reach)


@pytest.mark.parametrize("classes", CLASSES)
@pytest.mark.parametrize("kind", GAINS)
def test_the_students_term(kind: str, classes: int) -> None:
    scene, method = student_scene(classes, kind), built(preset_of("dfq", "toolbox", classes), classes)
    stated = {"kl": (1.0, mean_divergence(scene.teacher.logits, scene.student.logits))}
    assert_parity(method.student_terms(scene.view), method.student_weights, stated, scene.reach)
