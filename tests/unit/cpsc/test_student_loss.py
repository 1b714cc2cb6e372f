"""What a student step minimises: new and remembered images in one batch, for every method."""

import copy
import math
from contextlib import nullcontext
from typing import Any

import pytest
import torch

from cpsc.distiller import Distiller
from cpsc.first_weights import FirstWeights
from cpsc.loop import trainable, weighted_sum
from cpsc.methods import METHODS
from cpsc.observation import BatchViews
from cpsc.replay import Recalled
from cpsc.student_loss import StudentLoss
from tests.unit.cpsc.test_method_contract import small

IMAGES: dict[str, Any] = {"replay.kind": "images", "replay.every_epochs": 0, "replay.fraction": 0.5}
WITH_GENERATOR = [name for name, kind in METHODS.items() if "replay" in kind.SYNTHESIS.SECTIONS]


def first_preset(method: str) -> str:
    return next(iter(METHODS[method].PRESETS))


def test_new_and_remembered_images_are_one_batch_of_a_step(teacher) -> None:
    config = small("pre_dfkd", "original", **IMAGES)
    run = Distiller(config, teacher)
    loss = StudentLoss(
        config,
        method=run.method,
        views=BatchViews(run.teacher, run.student, run.method),
        synthesis=run.synthesis,
        first_weights=FirstWeights(config.student, run.student, teacher, seed=0, device=torch.device("cpu")),
        autocast=nullcontext,
    )
    expected = copy.deepcopy(run.student).requires_grad_()
    new, old = torch.randn(10, 1, 8, 8, generator=torch.Generator().manual_seed(7)).split([6, 4])
    together = torch.cat([new, old])
    (expected(together).logits - run.teacher(together).logits).abs().mean().backward()

    with trainable([run.student]):
        terms, answers = loss.on_new(new, torch.tensor([0, 1, 2, 3, 0, 1]), Recalled(old))
        weighted_sum(terms, loss.weights)[0].backward()
    torch.testing.assert_close(answers.logits, run.teacher(new).logits)
    torch.testing.assert_close(
        [weight.grad for weight in run.student.parameters()], [weight.grad for weight in expected.parameters()]
    )
    torch.testing.assert_close(dict(run.student.named_buffers()), dict(expected.named_buffers()))  # of one pass


@pytest.mark.parametrize(
    "replay", [IMAGES, {"replay.kind": "vae", "replay.latent_dim": 6, "replay.updates": 2}], ids=["images", "vae"]
)
@pytest.mark.parametrize("method", WITH_GENERATOR)
def test_every_method_with_a_generator_can_have_a_memory(method: str, replay: dict[str, Any], teacher) -> None:
    run = Distiller(small(method, first_preset(method), **replay), teacher)
    for _ in range(2):  # the first may warm up the generator alone
        metrics = run.train_epoch()
    terms = {name.removeprefix("student/") for name in metrics if name.startswith("student/")}
    assert terms == run.method.student_weights.keys()
    assert all(math.isfinite(value) for value in metrics.values())
    schedule = run.config.schedule
    assert metrics["distillation_images"] > schedule.iterations * schedule.student_steps * schedule.batch_size


def test_the_clip_norm_holds_for_the_whole_gradient(teacher) -> None:
    run = Distiller(small("pre_dfkd", "original", **IMAGES, **{"student.clip_norm": 0.01}), teacher)
    run.train_epoch()
    norm = torch.cat([weight.grad.flatten() for weight in run.student.parameters()]).norm().item()
    assert norm == pytest.approx(0.01, rel=1e-3)
