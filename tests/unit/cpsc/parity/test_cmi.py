"""CMI (methods, sec. 9), whose official code the toolbox is."""

from dataclasses import replace

import pytest
import torch
from torch import Tensor

from cpsc.methods.cmi import Cmi
from tests.unit.cpsc.parity.stage import (
    BATCH,
    CLASSES,
    GAINS,
    Scene,
    Stated,
    assert_parity,
    built,
    divergence,
    generator_scene,
    images_and_labels,
    mean_divergence,
    mean_over,
    networks,
    preset_of,
    statistics_gap,
    student_scene,
    surprise,
    unit,
)

TEMPERATURE = 0.1


def method_with_memories(classes: int, *, batches: int) -> Cmi:
    """Its bank holds the features of so many earlier batches, all of which a step draws."""
    config = preset_of("cmi", "toolbox", classes, schedule__batch_size=BATCH, cmi__bank_size=4 * BATCH, cmi__projection_dim=6)
    method = built(config, classes)
    assert isinstance(method, Cmi)
    rng = torch.Generator().manual_seed(4)
    for _ in range(batches):
        method.bank.add(*torch.rand(2, BATCH, 12, generator=rng, dtype=torch.float64))
    return method.requires_grad_(True)


def of_images(entering: list[Tensor]) -> Tensor:
    """Each image's features: the mean of every channel that enters a batch norm, [B, 12]."""
    return torch.cat([x.sum((2, 3)) / (x.shape[2] * x.shape[3]) for x in entering], dim=1)


def decisions_to_undo(scene: Scene) -> Tensor:
    """KL where teacher and student still choose alike, nothing elsewhere; an average over all."""
    t, s = scene.teacher.logits, scene.student.logits

    def of(i: int) -> Tensor:
        return divergence(t[i], s[i]) if t[i].argmax() == s[i].argmax() else 0.0 * t[i].sum()

    return mean_over(len(t), of)


def contrast(method: Cmi, local: Tensor, seen: Tensor) -> Tensor:
    """Each image's local view is to find its global one among all, new ones and remembered ones averaged apart."""
    remembered = method.bank.features[: method.bank.num_written]
    first, _, last = method.head

    def projected(rows: Tensor) -> list[Tensor]:
        hidden = (rows @ first.weight.T + first.bias).clamp(min=0.0)
        return [unit(row) for row in hidden @ last.weight.T + last.bias]

    near = projected(torch.cat([local, remembered[:, 0]]))
    far = torch.stack(projected(torch.cat([seen, remembered[:, 1]]))).detach()

    def of(i: int) -> Tensor:
        powers = torch.exp((near[i] * far).sum(1) / TEMPERATURE)
        return -(powers[i] / powers.sum()).log()

    new = mean_over(len(local), of)
    return new if len(near) == len(local) else new + mean_over(len(near) - len(local), lambda i: of(len(local) + i))


@pytest.mark.parametrize("classes", CLASSES)
def test_the_decision_is_undone_where_the_networks_still_choose_alike(classes: int) -> None:
    scene, method = generator_scene(classes, "akin"), method_with_memories(classes, batches=0)
    alike = scene.teacher.logits.argmax(1) == scene.student.logits.argmax(1)
    assert 0 < alike.sum() < len(alike)
    view = replace(scene.view, channel_means=(of_images(scene.entering),) * 2)
    term = method.generator_terms(view)["adversarial_decision"]
    for network in (scene.teacher, scene.student):
        (gradient,) = torch.autograd.grad(term.mean(), network.logits, retain_graph=True)
        assert torch.equal(gradient.abs().amax(1) > 0, alike)


@pytest.mark.parametrize("batches", [0, 2])
@pytest.mark.parametrize("classes", CLASSES)
@pytest.mark.parametrize("kind", GAINS)
def test_the_images_terms(kind: str, classes: int, batches: int) -> None:
    method, scene = method_with_memories(classes, batches=batches), generator_scene(classes, kind)
    teacher, _ = networks(classes, kind)
    other = images_and_labels(classes, seed=8)[0].requires_grad_()
    teacher(other)
    local, seen = of_images(teacher.entering), of_images(scene.entering)
    reach = scene.reach | {"local": other} | dict(method.head.named_parameters())
    stated: Stated = {
        "label": (1.0, surprise(scene.teacher.logits, scene.labels)),
        "batch_statistics": (1.0, statistics_gap(scene.entering, scene.norms)),
        "adversarial_decision": (0.5, -decisions_to_undo(scene)),
        "contrast": (0.8, contrast(method, local, seen)),
    }
    view = replace(scene.view, channel_means=(local, seen))
    assert_parity(method.generator_terms(view), method.generator_weights, stated, reach)


@pytest.mark.parametrize("classes", CLASSES)
@pytest.mark.parametrize("kind", GAINS)
def test_the_students_term(kind: str, classes: int) -> None:
    scene, method = student_scene(classes, kind), method_with_memories(classes, batches=0)
    kl = mean_divergence(scene.teacher.logits, scene.student.logits, temperature=20.0)
    assert_parity(method.student_terms(scene.view), method.student_weights, {"kl": (1.0, kl)}, scene.reach)
