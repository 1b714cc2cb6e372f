"""ADI (methods, sec. 7): the paper's equations 3 to 8, the toolbox's form of them, and that of the published DeepInversion code."""

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
    gradient_norms,
    jensen_shannon,
    kept_within,
    mean_divergence,
    preset_of,
    reversed_jensen_shannon,
    statistics_gap,
    student_scene,
    surprise,
)


def neighbours(images: Tensor) -> list[Tensor]:
    """What pixels differ by from those to the right, below, below to the right and below to the left."""
    height, width = images.shape[2:]
    top, bottom, left, right = range(height - 1), range(1, height), range(width - 1), range(1, width)

    def cut(rows: range, columns: range) -> Tensor:
        return images[:, :, rows.start : rows.stop, columns.start : columns.stop]

    everywhere = (range(height), range(width))
    return [
        cut(everywhere[0], left) - cut(everywhere[0], right),
        cut(top, everywhere[1]) - cut(bottom, everywhere[1]),
        cut(top, left) - cut(bottom, right),
        cut(top, right) - cut(bottom, left),
    ]


def length(values: Tensor) -> Tensor:
    return (values**2).sum().sqrt()


def original(scene: Scene) -> Stated:
    t, s = scene.teacher.logits, scene.student.logits
    return {
        "label": (1.0, surprise(t, scene.labels)),
        "batch_statistics": (10.0, statistics_gap(scene.entering, scene.norms)),
        "total_variation": (2.5e-5, sum(length(gap) for gap in neighbours(scene.images))),
        "image_norm": (3e-8, length(scene.images)),
        "adversarial_agreement": (10.0, 1.0 - jensen_shannon(s, t)),
    }


def toolbox(scene: Scene) -> Stated:
    t, s = scene.teacher.logits, scene.student.logits
    variation = sum((gap * gap.detach().sign()).sum() / gap.numel() for gap in neighbours(scene.images))
    return {
        "label": (1.0, surprise(t, scene.labels)),
        "batch_statistics": (10.0, statistics_gap(scene.entering, scene.norms)),
        "total_variation": (1e-3, variation),
        "adversarial_agreement": (1.0, -reversed_jensen_shannon(s, t).sum() / len(t)),
    }


def published_code(scene: Scene) -> Stated:
    divergence = reversed_jensen_shannon(scene.student.logits, scene.teacher.logits).sum() / len(scene.labels)
    return original(scene) | {"adversarial_agreement": (10.0, 1.0 - kept_within(divergence, 0.0, 1.0))}


FORMS = {
    "original": ("original", {}, original),
    "toolbox": ("toolbox", {}, toolbox),
    "published code": ("original", {"switches__disagreement": "clamped"}, published_code),
}


@pytest.mark.parametrize("classes", CLASSES)
@pytest.mark.parametrize("kind", GAINS)
@pytest.mark.parametrize("form", FORMS)
def test_the_images_terms(form: str, kind: str, classes: int) -> None:
    preset, changes, stated = FORMS[form]
    scene, method = generator_scene(classes, kind), built(preset_of("adi", preset, classes, **changes), classes)
    assert_parity(method.generator_terms(scene.view), method.generator_weights, stated(scene), scene.reach)


@pytest.mark.parametrize("form", FORMS)
def test_the_competition_reaches_the_images_through_both_networks(form: str) -> None:
    preset, changes, _ = FORMS[form]
    scene, method = generator_scene(10), built(preset_of("adi", preset, 10, **changes), 10)
    norms = gradient_norms(method.generator_terms(scene.view)["adversarial_agreement"], scene.reach)
    assert min(norms["teacher.logits"], norms["student.logits"], norms["images"]) > 1e-5


@pytest.mark.parametrize(("form", "has_gradient"), [("original", True), ("toolbox", True), ("published code", False)])
def test_between_networks_that_disagree_about_everything_only_the_published_codes_clamp_stops_it(
    form: str, has_gradient: bool
) -> None:
    preset, changes, _ = FORMS[form]
    method = built(preset_of("adi", preset, 10, **changes), 10)
    scene = generator_scene(10)
    rows = torch.arange(len(scene.labels))
    wide = [torch.full((len(rows), 10), -4.0, dtype=torch.float64) for _ in range(2)]
    for logits, shift in zip(wide, (0, 1), strict=True):
        logits[rows, (rows + shift) % 10] = 9.0
        logits.requires_grad_()
    scene.teacher, scene.student = scene.teacher._replace(logits=wide[0]), scene.student._replace(logits=wide[1])
    term = method.generator_terms(scene.view)["adversarial_agreement"]
    norms = gradient_norms(term, {"teacher": wide[0], "student": wide[1]})
    assert (min(norms.values()) > 1e-3) == has_gradient
    assert (max(norms.values()) > 0.0) == has_gradient


@pytest.mark.parametrize("classes", CLASSES)
@pytest.mark.parametrize("kind", GAINS)
@pytest.mark.parametrize(("preset", "temperature"), [("original", 3.0), ("toolbox", 20.0)])
def test_the_students_term(preset: str, temperature: float, kind: str, classes: int) -> None:
    scene, method = student_scene(classes, kind), built(preset_of("adi", preset, classes), classes)
    kl = mean_divergence(scene.teacher.logits, scene.student.logits, temperature=temperature)
    assert_parity(method.student_terms(scene.view), method.student_weights, {"kl": (1.0, kl)}, scene.reach)
