"""DFAD (methods, sec. 6): one distance, lessened by the student and raised by the generator; alike in code and toolbox."""

import pytest

from tests.unit.cpsc.parity.stage import (
    CLASSES,
    GAINS,
    assert_parity,
    built,
    generator_scene,
    mean_gap,
    preset_of,
    student_scene,
)


@pytest.mark.parametrize("classes", CLASSES)
@pytest.mark.parametrize("kind", GAINS)
@pytest.mark.parametrize("preset", ["original", "toolbox"])
def test_both_terms(preset: str, kind: str, classes: int) -> None:
    method = built(preset_of("dfad", preset, classes), classes)
    scene = generator_scene(classes, kind)
    stated = {"adversarial_l1": (1.0, -mean_gap(scene.student.logits, scene.teacher.logits))}
    assert_parity(method.generator_terms(scene.view), method.generator_weights, stated, scene.reach)
    scene = student_scene(classes, kind)
    stated = {"l1": (1.0, mean_gap(scene.student.logits, scene.teacher.logits))}
    assert_parity(method.student_terms(scene.view), method.student_weights, stated, scene.reach)
