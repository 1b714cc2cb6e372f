"""PRE-DFKD (methods, sec. 3): the novel generator's and the student's terms."""

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
    gradient_norms,
    imbalance,
    jensen_shannon,
    kept_within,
    mean_gap,
    preset_of,
    reversed_jensen_shannon,
    student_scene,
)


def generator(scene: Scene, preset: str) -> Stated:
    t, s = scene.teacher, scene.student
    fixed = t.logits.detach()
    if preset == "original":
        agreement = 1.0 - jensen_shannon(s.logits, fixed)
    else:
        divergence = reversed_jensen_shannon(s.logits, fixed)
        agreement = 1.0 - kept_within(divergence.sum() / divergence.numel(), 0.0, 1.0)
    return {
        "one_hot": (1.0, confidence(t.logits)),
        "balance": (5.0, imbalance(t.logits) / math.log(10.0)),
        "activation": (0.1, -mean_gap(t.features, 0.0 * t.features)),
        "adversarial_agreement": (1.0, agreement),
    }


@pytest.mark.parametrize("classes", CLASSES)
@pytest.mark.parametrize("kind", GAINS)
@pytest.mark.parametrize("preset", ["original", "reference"])
def test_the_generators_terms(preset: str, kind: str, classes: int) -> None:
    scene, method = generator_scene(classes, kind), built(preset_of("pre_dfkd", preset, classes), classes)
    assert_parity(method.generator_terms(scene.view), method.generator_weights, generator(scene, preset), scene.reach)


@pytest.mark.parametrize("classes", CLASSES)
@pytest.mark.parametrize("kind", GAINS)
@pytest.mark.parametrize("preset", ["original", "reference"])
def test_the_students_term(preset: str, kind: str, classes: int) -> None:
    scene, method = student_scene(classes, kind), built(preset_of("pre_dfkd", preset, classes), classes)
    stated = {"l1": (1.0, mean_gap(scene.student.logits, scene.teacher.logits))}
    assert_parity(method.student_terms(scene.view), method.student_weights, stated, scene.reach)


@pytest.mark.parametrize("preset", ["original", "reference"])
def test_the_disagreement_reaches_the_images_through_the_student_alone(preset: str) -> None:
    scene, method = generator_scene(10), built(preset_of("pre_dfkd", preset, 10), 10)
    norms = gradient_norms(method.generator_terms(scene.view)["adversarial_agreement"], scene.reach)
    assert norms["teacher.logits"] == 0.0
    assert norms["student.logits"] > 1e-5
    assert norms["images"] > 1e-6
