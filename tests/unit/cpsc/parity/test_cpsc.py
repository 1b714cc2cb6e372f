"""CPSC-DFKD (methods, sec. 2): the paper's equations 6 to 10 and what the published code computes in their places."""

from collections.abc import Callable

import pytest
import torch
from torch import Tensor

from tests.unit.cpsc.parity.stage import (
    CLASSES,
    Scene,
    Stated,
    assert_parity,
    assert_same,
    built,
    chances,
    generator_scene,
    gradient_norms,
    log_chances,
    mean_divergence,
    mean_over,
    preset_of,
    statistics_gap,
    student_scene,
    surprise,
    unit,
)

KINDS = ["usual", "akin", "saturated", "flat", "opposed"]
ALPHA, ETA = 5.0, 0.7


def distance(teacher: Tensor, student: Tensor) -> Tensor:
    """Of the whole batch's logits, as one vector."""
    return ((teacher - student) ** 2).sum().sqrt()


def mean_square(teacher: Tensor, student: Tensor) -> Tensor:
    return ((teacher - student) ** 2).sum() / teacher.numel()


def doubly_soft_surprise(logits: Tensor, labels: Tensor) -> Tensor:
    return mean_over(len(labels), lambda i: -log_chances(chances(logits[i]))[labels[i]])


def anchored_contrast(teacher: Tensor, student: Tensor, labels: Tensor, *, temperature: float) -> Tensor:
    """Each teacher feature among all the student's, those of its class, its own among them, being the right ones."""

    def of(i: int) -> Tensor:
        similar = torch.exp((teacher[i] * student).sum(1) / temperature)
        right = similar[[j for j in range(len(labels)) if labels[j] == labels[i]]]
        return -(right / similar.sum()).log().sum() / len(right)

    return mean_over(len(labels), of)


def contrast_of_both_views(teacher: Tensor, student: Tensor, labels: Tensor, *, temperature: float) -> Tensor:
    """Every view of every image among the other 2B - 1, whoever's it is."""
    views, marks = torch.cat([teacher, student]), labels.tolist() * 2

    def of(i: int) -> Tensor:
        others = [j for j in range(len(views)) if j != i]
        similar = torch.exp((views[i] * views[others]).sum(1) / temperature)
        right = similar[[place for place, j in enumerate(others) if marks[j] == marks[i]]]
        return -(right / similar.sum()).log().sum() / len(right)

    return mean_over(len(views), of)


def units(rows: Tensor) -> Tensor:
    return torch.stack([unit(row) for row in rows])


def paper_generator(scene: Scene) -> Stated:
    t, s = scene.teacher, scene.student
    return {
        "adversarial_kl": (1.0, -mean_divergence(t.logits, s.logits)),
        "adversarial_l2": (ALPHA, -distance(t.logits, s.logits).log()),
        "batch_statistics": (1.0, statistics_gap(scene.entering, scene.norms)),
        "contrast": (0.7, anchored_contrast(units(t.features), units(s.features), scene.labels, temperature=0.07)),
        "label": (ETA, surprise(t.logits, scene.labels)),
    }


def reference_generator(scene: Scene) -> Stated:
    """The teacher's logits are a constant of the L2 term alone; CIFAR-10 has its logarithm, larger sets have not."""
    t, s = scene.teacher, scene.student
    gap = mean_square(t.logits.detach(), s.logits)
    return {
        **paper_generator(scene),
        "adversarial_l2": (ALPHA, -gap.log() if t.logits.shape[1] < 100 else -gap),
        "contrast": (0.7, contrast_of_both_views(units(t.features), units(s.features), scene.labels, temperature=0.07)),
        "label": (ETA, doubly_soft_surprise(t.logits, scene.labels)),
    }


def paper_student(scene: Scene) -> Stated:
    t, s = scene.teacher, scene.student
    return {
        "kl": (1.0, mean_divergence(t.logits, s.logits)),
        "l2": (ALPHA, distance(t.logits, s.logits).log()),
        "label": (ETA, surprise(s.logits, scene.labels)),
    }


def reference_student(scene: Scene) -> Stated:
    t, s = scene.teacher, scene.student
    return {
        **paper_student(scene),
        "l2": (ALPHA, distance(t.logits, s.logits).log() if t.logits.shape[1] < 100 else mean_square(t.logits, s.logits)),
        "label": (ETA, doubly_soft_surprise(s.logits, scene.labels)),
    }


@pytest.mark.parametrize("classes", CLASSES)
@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize(("preset", "stated"), [("paper", paper_generator), ("reference", reference_generator)])
def test_the_generators_terms(preset: str, stated: Callable[[Scene], Stated], kind: str, classes: int) -> None:
    scene, method = generator_scene(classes, kind), built(preset_of("cpsc", preset, classes), classes)
    assert_parity(method.generator_terms(scene.view), method.generator_weights, stated(scene), scene.reach)


@pytest.mark.parametrize("classes", CLASSES)
@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize(("preset", "stated"), [("paper", paper_student), ("reference", reference_student)])
def test_the_students_terms(preset: str, stated: Callable[[Scene], Stated], kind: str, classes: int) -> None:
    scene, method = student_scene(classes, kind), built(preset_of("cpsc", preset, classes), classes)
    assert_parity(method.student_terms(scene.view), method.student_weights, stated(scene), scene.reach)


@pytest.mark.parametrize(("preset", "unit_again"), [("paper", True), ("reference", False)])
def test_a_student_of_another_width_is_compared_through_its_adapter(preset: str, unit_again: bool) -> None:
    scene = generator_scene(10, student_dim=4)
    method = built(preset_of("cpsc", preset, 10), 10, student_dim=4)
    first, _, last = method.adapter
    reach = scene.reach | dict(first.named_parameters())
    hidden = (units(scene.student.features) @ first.weight.T + first.bias).clamp(min=0.0)
    adapted = hidden @ last.weight.T + last.bias
    contrast = anchored_contrast if preset == "paper" else contrast_of_both_views
    teacher, student = units(scene.teacher.features), units(adapted) if unit_again else adapted
    expected = contrast(teacher, student, scene.labels, temperature=0.07)
    assert_same("contrast", method.generator_terms(scene.view)["contrast"].mean(), expected, reach)


def test_the_published_codes_temperature_rescales_its_contrast() -> None:
    scene = generator_scene(10)
    method = built(preset_of("cpsc", "reference", 10, contrast_temperature=0.5), 10)
    both = contrast_of_both_views(units(scene.teacher.features), units(scene.student.features), scene.labels, temperature=0.5)
    assert_same("contrast", method.generator_terms(scene.view)["contrast"].mean(), both * 0.5 / 0.07, scene.reach)


def test_between_equal_networks_the_logarithm_stops_at_its_floor_and_has_no_gradient() -> None:
    """The paper's form is minus infinity there: the one place where ours is another."""
    scene, method = student_scene(10, "equal"), built(preset_of("cpsc", "paper", 10), 10)
    terms = method.student_terms(scene.view)
    assert terms["l2"].item() == pytest.approx(torch.tensor(1e-4).log().item())
    assert set(gradient_norms(terms["l2"], scene.reach).values()) == {0.0}
