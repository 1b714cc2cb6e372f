"""What a student step minimises: remembered images retained by a meta objective."""

import math
from collections.abc import Callable
from contextlib import nullcontext
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.func import functional_call

from cpsc.config import DistillConfig
from cpsc.device import autocast
from cpsc.distiller import Distiller
from cpsc.errors import ConfigError
from cpsc.execution import PLAIN
from cpsc.first_weights import FirstWeights
from cpsc.inner_step import buffers_aside
from cpsc.loop import trainable, weighted_sum
from cpsc.methods import METHODS, method_class
from cpsc.models import Output, build_model
from cpsc.observation import BatchViews
from cpsc.replay import Recalled
from cpsc.student_loss import StudentLoss
from cpsc.teacher import Teacher
from tests.unit.cpsc.test_distiller import check_resumed_equals_straight
from tests.unit.cpsc.test_method_contract import small

CPU = torch.device("cpu")
RATE = 0.2
IMAGES: dict[str, Any] = {"replay.kind": "images", "replay.every_epochs": 0, "replay.fraction": 0.5, "replay.inner_lr": RATE}
RETAINED = IMAGES | {"replay.retention": "meta"}
WITH_GENERATOR = [name for name, kind in METHODS.items() if "replay" in kind.SYNTHESIS.SECTIONS]


class Step:
    """A student's loss by itself, in float64, on six new and four remembered images; `changes`: of the tiny config."""

    def __init__(self, teacher: Teacher, method: str = "pre_dfkd", arch: str = "wrn_10_1", **changes: Any) -> None:
        self.config = small(method, next(iter(METHODS[method].PRESETS)), **({"student.arch": arch} | changes))
        torch.manual_seed(7)
        self.student = build_model(arch, num_classes=4, channels=1).double().train().requires_grad_(False)
        self.teacher = teacher.build(CPU).double()
        self.new, self.old = torch.randn(6, 1, 8, 8).double(), torch.randn(4, 1, 8, 8).double()
        self.labels = torch.tensor([0, 1, 2, 3, 0, 1])
        method_ = method_class(method)(self.config, teacher=self.teacher, student=self.student).double()
        first = FirstWeights(self.config.student, self.student, teacher, seed=0, device=CPU)
        never_compiled = PLAIN._replace(forward=self._forward)
        views = BatchViews(self.teacher, self.student, method_, execution=never_compiled)
        self.loss = StudentLoss(
            self.config,
            student=self.student,
            method=method_,
            views=views,
            synthesis=Distiller(self.config, teacher).synthesis,
            first_weights=first,
            autocast=nullcontext,
        )
        self.compiled: list[nn.Module] = []

    def _forward(self, network: nn.Module, images: Tensor) -> Output:
        self.compiled.append(network)
        return PLAIN.forward(network, images)

    def gradients(self, recalled: Recalled | None) -> dict[str, Tensor]:
        """Of the whole loss, as the loop takes it."""
        with trainable([self.student]):
            terms, _ = self.loss.on_new(self.new, self.labels, recalled)
            weighted_sum(terms, self.loss.weights)[0].backward()
        return {name: weight.grad for name, weight in self.student.named_parameters() if weight.grad is not None}

    def l1(self, weights: dict[str, Tensor], images: Tensor) -> Tensor:
        """PRE-DFKD's whole loss, with batch norms that forget the pass."""
        student = functional_call(self.student, weights | buffers_aside(self.student), (images,)).logits
        return (student - self.teacher(images).logits).abs().mean()


@pytest.mark.parametrize("acquisition", ["new", "all"])
@pytest.mark.parametrize("retention", ["meta", "first_order"])
def test_the_gradient_is_that_of_the_paper_and_of_the_published_code(retention: str, acquisition: str, teacher) -> None:
    step = Step(teacher, **IMAGES, **{"replay.retention": retention, "replay.acquisition": acquisition})
    present = step.new if acquisition == "new" else torch.cat([step.new, step.old])

    weights = {name: weight.detach().clone().requires_grad_() for name, weight in step.student.named_parameters()}
    slopes = torch.autograd.grad(step.l1(weights, step.new), tuple(weights.values()), create_graph=retention == "meta")
    ahead = {name: weight - RATE * slope for (name, weight), slope in zip(weights.items(), slopes, strict=True)}
    (step.l1(weights, present) + step.l1(ahead, step.old)).backward()
    found = step.gradients(Recalled(step.old))
    for name, weight in weights.items():
        torch.testing.assert_close(found[name], weight.grad, rtol=1e-8, atol=1e-10)


def test_gradients_through_the_inner_step_are_others_than_those_past_it(teacher) -> None:
    steps = [Step(teacher, **IMAGES, **{"replay.retention": retention}) for retention in ("meta", "first_order")]
    meta, first_order = (step.gradients(Recalled(step.old))["conv1.weight"] for step in steps)
    assert (meta - first_order).norm() > 0.01 * meta.norm()


@pytest.mark.parametrize("acquisition", ["new", "all"])
def test_running_statistics_are_those_of_the_students_own_weights_once_a_step(acquisition: str, teacher) -> None:
    step = Step(teacher, **RETAINED, **{"replay.acquisition": acquisition})
    buffers = buffers_aside(step.student)
    own = dict(step.student.named_parameters())
    functional_call(step.student, own | buffers, (step.new if acquisition == "new" else torch.cat([step.new, step.old]),))
    step.gradients(Recalled(step.old))
    for name, buffer in step.student.named_buffers():
        torch.testing.assert_close(buffer, buffers[name])


def test_before_there_is_a_memory_a_step_is_one_on_new_images_alone(teacher) -> None:
    meta, joint = (Step(teacher, **IMAGES, **{"replay.retention": retention}) for retention in ("meta", "joint"))
    terms, answers = meta.loss.on_new(meta.new, meta.labels, None)
    assert terms.keys() == meta.loss.weights.keys() == {"l1", "retained_l1"}
    assert terms["retained_l1"] == 0
    assert len(answers.logits) == 6
    torch.testing.assert_close(meta.gradients(None), joint.gradients(None))


def test_what_is_differentiated_through_is_not_compiled(teacher) -> None:
    step = Step(teacher, **RETAINED)
    step.gradients(Recalled(step.old))
    assert step.student not in step.compiled
    assert step.teacher in step.compiled


def test_a_transformers_attention_is_differentiated_twice(make_teacher) -> None:
    step = Step(make_teacher("vit_tiny"), "dfad", "vit_tiny", **RETAINED)
    assert all(gradient.isfinite().all() for gradient in step.gradients(Recalled(step.old)).values())


def test_bf16_gives_the_gradient_of_float32_but_for_its_rounding(teacher) -> None:
    gradients = []
    for precision in ("fp32", "bf16"):
        step = Step(teacher, **RETAINED | {"replay.inner_lr": 0.05})
        step.student.float(), step.teacher.float()
        step.new, step.old = step.new.float(), step.old.float()
        step.loss._autocast = autocast(precision, CPU)
        found = step.gradients(Recalled(step.old))
        gradients.append(torch.cat([gradient.flatten() for gradient in found.values()]))
    assert gradients[1].dtype == torch.float32
    assert torch.cosine_similarity(*gradients, dim=0) > 0.98


@pytest.mark.parametrize(
    "replay", [IMAGES, {"replay.kind": "vae", "replay.latent_dim": 6, "replay.updates": 2}], ids=["images", "vae"]
)
@pytest.mark.parametrize("method", WITH_GENERATOR)
def test_every_method_with_a_memory_can_retain(method: str, replay: dict[str, Any], teacher) -> None:
    run = Distiller(small(method, next(iter(METHODS[method].PRESETS)), **replay, **{"replay.retention": "meta"}), teacher)
    for _ in range(2):  # the first may warm up the generator alone
        metrics = run.train_epoch()
    terms = {name.removeprefix("student/") for name in metrics if name.startswith("student/")}
    assert terms == {*run.method.student_weights, *(f"retained_{name}" for name in run.method.student_weights)}
    assert all(math.isfinite(value) for value in metrics.values())
    assert any(metrics[f"student/retained_{name}"] for name in run.method.student_weights)


def test_the_clip_norm_holds_for_the_whole_gradient(teacher) -> None:
    run = Distiller(small("pre_dfkd", "original", **RETAINED, **{"student.clip_norm": 0.01}), teacher)
    run.train_epoch()
    norm = torch.cat([weight.grad.flatten() for weight in run.student.parameters()]).norm().item()
    assert norm == pytest.approx(0.01, rel=1e-3)


# Resumed

RESUMED: list[tuple[str, str, str, dict[str, Any]]] = [
    ("cpsc", "paper", "wrn_10_1", RETAINED | {"replay.rehearsals": 1, "replay.answers": "kept"}),
    ("pre_dfkd", "original", "wrn_10_1", {"replay.retention": "meta", "replay.inner_lr": 0.1}),
    ("dfad", "original", "wrn_10_1", RETAINED | {"replay.retention": "first_order"}),
    ("zskt", "original", "wrn_10_1", RETAINED | {"replay.acquisition": "all", "student.milestones": []}),
    (
        "dfq",
        "original",
        "wrn_10_2",
        RETAINED
        | {"student.initial": "reconstructed", "student.hints": 2.0, "student.lr": 0.01, "mixing.blended": 0.5}
        | {"replay.inner_lr": 0.001},
    ),
]


@pytest.mark.parametrize(("method", "preset", "arch", "changes"), RESUMED, ids=[case[0] for case in RESUMED])
def test_two_epochs_and_two_more_after_a_file_equal_four_bit_for_bit(
    method: str, preset: str, arch: str, changes: dict[str, Any], make_teacher: Callable[..., Teacher], make_probe, tmp_path
) -> None:
    teacher = make_teacher(arch)
    config, probe = small(method, preset, **changes), make_probe(teacher)
    expected = check_resumed_equals_straight(config, teacher, probe, tmp_path / "run.pt")
    assert ("student/retained_hints" in expected[-1]) == ("student.hints" in changes)


# What cannot be


@pytest.mark.parametrize(
    ("changes", "rule"),
    [
        (
            {"replay": {"retention": "meta"}},
            "replay.kind must be images or vae with replay.retention meta: there is nothing to retain, got 'none'",
        ),
        (
            {"replay": {"kind": "images", "retention": "first_order", "fraction": 0.0, "rehearsals": 1, "every_epochs": 0}},
            "replay.fraction must be > 0 with replay.retention first_order: nothing is recalled, got 0.0",
        ),
        (
            {"replay": {"kind": "images", "retention": "meta", "capacity": 1}},
            r"replay.capacity must be >= 2 with replay.retention meta \(batch norm\), got 1",
        ),
        (
            {"replay": {"kind": "images", "retention": "meta"}},  # of 8 images
            "replay.fraction must be at least 2 images of schedule.batch_size with replay.retention meta",
        ),
        (
            {"replay": {"kind": "images", "retention": "meta", "fraction": 0.5}, "precision": "fp16"},
            "precision must be bf16, fp32 or auto with replay.retention meta: its inner step is not scaled, got 'fp16'",
        ),
        ({"replay": {"inner_lr": 0.0}}, "replay.inner_lr must be > 0, got 0.0"),
        ({"replay": {"retention": "mata"}}, "replay.retention must be one of joint, meta, first_order, got 'mata'"),
    ],
)
def test_what_a_step_cannot_be_is_refused(changes: dict[str, Any], rule: str, vary: Callable[..., DistillConfig]) -> None:
    with pytest.raises(ConfigError, match=rule):
        vary(**changes)
