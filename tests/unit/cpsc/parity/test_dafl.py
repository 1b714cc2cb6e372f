"""DAFL (methods, sec. 4): as its authors' code and as the toolbox has it."""

import math

import pytest

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
    mean_gap,
    preset_of,
    student_scene,
)

FACTORS = {
    ("original", 10): (0.05, 5.0 / math.log(10.0), 0.01),
    ("original", 100): (0.5, 20.0 / math.log(10.0), 0.1),
    ("toolbox", 10): (1.0, 20.0, 1e-3),
    ("toolbox", 100): (1.0, 20.0, 1e-3),
}
"""Of the one-hot term, of the mean class's p ln p, of the activation."""


def generator(scene: Scene, preset: str) -> Stated:
    t = scene.teacher
    one_hot, balance, activation = FACTORS[preset, t.logits.shape[1]]
    base = 10.0 if preset == "original" else math.e
    return {
        "one_hot": (one_hot, confidence(t.logits)),
        "balance": (round(balance * math.log(base), 12), imbalance(t.logits) / math.log(base)),
        "activation": (activation, -mean_gap(t.features, 0.0 * t.features)),
    }


@pytest.mark.parametrize("classes", CLASSES)
@pytest.mark.parametrize("kind", GAINS)
@pytest.mark.parametrize("preset", ["original", "toolbox"])
def test_the_generators_terms(preset: str, kind: str, classes: int) -> None:
    scene, method = generator_scene(classes, kind, asks_student=False), built(preset_of("dafl", preset, classes), classes)
    assert not method.needs_student
    assert_parity(method.generator_terms(scene.view), method.generator_weights, generator(scene, preset), scene.reach)


@pytest.mark.parametrize("classes", CLASSES)
@pytest.mark.parametrize("kind", GAINS)
@pytest.mark.parametrize("preset", ["original", "toolbox"])
def test_the_students_term(preset: str, kind: str, classes: int) -> None:
    scene, method = student_scene(classes, kind), built(preset_of("dafl", preset, classes), classes)
    stated = {"kl": (1.0, mean_divergence(scene.teacher.logits, scene.student.logits))}
    assert_parity(method.student_terms(scene.view), method.student_weights, stated, scene.reach)
