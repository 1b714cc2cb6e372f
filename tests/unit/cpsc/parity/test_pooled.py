"""NAYER and FastDFKD, which have one loss: its terms before and after the first turn, and the momentum of the statistics."""

import pytest
import torch
from torch import Tensor, nn

from cpsc.methods.pooled import PooledMethod
from tests.unit.cpsc.parity.stage import (
    CLASSES,
    GAINS,
    Stated,
    assert_parity,
    built,
    generator_scene,
    images_and_labels,
    mean_divergence,
    networks,
    preset_of,
    student_scene,
    surprise,
)
from tests.unit.cpsc.parity.test_cmi import decisions_to_undo

Moments = list[tuple[Tensor, Tensor]]
NAMES = ("nayer", "fast_dfkd")


def method_of(name: str, classes: int) -> PooledMethod:
    method = built(preset_of(name, "original", classes), classes)
    assert isinstance(method, PooledMethod)
    return method


def moments(entering: list[Tensor]) -> Moments:
    """Of each layer the batch's means and variances, divided by N."""
    found = []
    for x in entering:
        by_channel = x.transpose(0, 1).reshape(x.shape[1], -1)
        means = by_channel.sum(1) / by_channel.shape[1]
        found.append((means, ((by_channel - means[:, None]) ** 2).sum(1) / by_channel.shape[1]))
    return found


def gap(seen: Moments, norms: list[nn.BatchNorm2d], earlier: Moments | None) -> Tensor:
    """What is left of the stored statistics once a tenth of the batch's and nine tenths of the earlier ones are taken off."""
    total = torch.tensor(0.0, dtype=torch.float64)
    for layer, ((mean, variance), norm) in enumerate(zip(seen, norms, strict=True)):
        if earlier is None:
            left = norm.running_mean - mean, norm.running_var - variance
        else:
            left = (
                norm.running_mean - 0.1 * mean - 0.9 * earlier[layer][0],
                norm.running_var - 0.1 * variance - 0.9 * earlier[layer][1],
            )
        total = total + sum((part**2).sum().sqrt() for part in left)
    return total


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("turns", [0, 1, 3])
@pytest.mark.parametrize("classes", CLASSES)
@pytest.mark.parametrize("kind", GAINS)
def test_the_images_terms(kind: str, classes: int, turns: int, name: str) -> None:
    method, scene = method_of(name, classes), generator_scene(classes, kind)
    teacher, student = networks(classes, kind)
    running: Moments | None = None
    for seed in range(turns):
        images, labels = images_and_labels(classes, seed=20 + seed)
        answers, other = teacher(images), student(images)
        earlier = generator_scene(classes, kind)
        earlier.labels, earlier.teacher, earlier.student, earlier.entering = labels, answers, other, teacher.entering
        method.generator_terms(earlier.view)
        method.end_turn()
        new = moments(teacher.entering)
        if running is None:
            running = new
        else:
            running = [
                (0.9 * old_mean + 0.1 * mean, 0.9 * old_var + 0.1 * var)
                for (old_mean, old_var), (mean, var) in zip(running, new, strict=True)
            ]
    stated: Stated = {
        "label": (0.5, surprise(scene.teacher.logits, scene.labels)),
        "batch_statistics": (10.0, gap(moments(scene.entering), scene.norms, running)),
        "adversarial_decision": (1.33, -decisions_to_undo(scene)),
    }
    assert_parity(method.generator_terms(scene.view), method.generator_weights, stated, scene.reach)


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("classes", CLASSES)
@pytest.mark.parametrize("kind", GAINS)
def test_the_students_term(kind: str, classes: int, name: str) -> None:
    scene, method = student_scene(classes, kind), method_of(name, classes)
    kl = mean_divergence(scene.teacher.logits, scene.student.logits, temperature=20.0)
    assert_parity(method.student_terms(scene.view), method.student_weights, {"kl": (1.0, kl)}, scene.reach)
