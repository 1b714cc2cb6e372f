"""ZSKT (methods, sec. 5): with attention and means over classes as its authors' code, without either in the toolbox."""

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
    generator_scene,
    mean_divergence,
    preset_of,
    student_scene,
    unit,
)


def divergence(scene: Scene, preset: str) -> Tensor:
    """PyTorch's default mean divides by batch and classes, the toolbox's by the batch."""
    value = mean_divergence(scene.teacher.logits, scene.student.logits)
    return value / scene.teacher.logits.shape[1] if preset == "original" else value


def attention_gap(students: list[Tensor], teachers: list[Tensor]) -> Tensor:
    """Over stages: mean square of the difference of maps, each sample's map the mean of squares over channels, of length 1."""
    total = torch.tensor(0.0)
    for mine, theirs in zip(students, teachers, strict=True):
        maps = [torch.stack([unit((x**2).sum(0).flatten() / x.shape[0]) for x in side]) for side in (mine, theirs)]
        total = total + ((maps[0] - maps[1]) ** 2).sum() / maps[0].numel()
    return total


def student(scene: Scene, preset: str) -> Stated:
    stated: dict[str, tuple[float, Tensor]] = {"kl": (1.0, divergence(scene, preset))}
    if preset == "original":
        stated["attention"] = (250.0, attention_gap(*scene.stages))
    return stated


@pytest.mark.parametrize("classes", CLASSES)
@pytest.mark.parametrize("kind", GAINS)
@pytest.mark.parametrize("preset", ["original", "toolbox"])
def test_the_generators_term(preset: str, kind: str, classes: int) -> None:
    scene, method = generator_scene(classes, kind), built(preset_of("zskt", preset, classes), classes)
    stated = {"adversarial_kl": (1.0, -divergence(scene, preset))}
    assert_parity(method.generator_terms(scene.view), method.generator_weights, stated, scene.reach)


@pytest.mark.parametrize("classes", CLASSES)
@pytest.mark.parametrize("kind", GAINS)
@pytest.mark.parametrize("preset", ["original", "toolbox"])
def test_the_students_terms(preset: str, kind: str, classes: int) -> None:
    scene, method = student_scene(classes, kind), built(preset_of("zskt", preset, classes), classes)
    assert_parity(method.student_terms(scene.view), method.student_weights, student(scene, preset), scene.reach)
