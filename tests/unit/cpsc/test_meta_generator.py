"""FastDFKD's images: what a turn begins from, what the meta-generator learns from it, its one redrawing."""

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor

from cpsc.config import DistillConfig
from cpsc.distiller import Distiller
from cpsc.errors import ConfigError
from cpsc.generator import Generator
from cpsc.rng import RandomStreams
from cpsc.synthesis import InvertedByMetaGenerator
from cpsc.teacher import Teacher
from tests.support.configs import config_of

CPU = torch.device("cpu")
STEPS = 3
TINY: dict[str, Any] = {
    "method": "fast_dfkd",
    "epochs": 4,
    "student": {"arch": "wrn_10_1"},
    "generator": {"latent_dim": 8, "width": 4, "lr": 0.01},
    "schedule": {"generator_steps": STEPS, "student_steps": 2, "batch_size": 6, "generator_warmup_epochs": 0},
    "precision": "fp32",
}


def tiny(**point: Any) -> DistillConfig:
    return config_of(TINY, {name.replace("__", "."): value for name, value in point.items()}, num_classes=4)


def made(config: DistillConfig, teacher: Teacher) -> InvertedByMetaGenerator:
    synthesis = InvertedByMetaGenerator(config, teacher, RandomStreams(config.seed, CPU), CPU)
    synthesis.begin_epoch(1, lr=config.generator.lr)
    return synthesis


def meta(synthesis: InvertedByMetaGenerator) -> Generator:
    part = synthesis.parts()["generator"]
    assert isinstance(part, Generator)
    return part


def weights(network: Generator) -> list[Tensor]:
    return [parameter.detach().clone() for parameter in network.parameters()]


def turn(synthesis: InvertedByMetaGenerator, loss: Callable[[Tensor], Tensor]) -> list[list[Tensor]]:
    """A whole turn, as the loop makes it -> the working generator's gradients at each step."""
    working = synthesis.modules[0]
    gradients = []
    synthesis.begin()
    for module in synthesis.modules:
        module.requires_grad_(True)
    for _ in range(STEPS):
        value = loss(synthesis.batch().images)
        synthesis.on_loss(value.detach())
        optimizers = synthesis.optimizers()
        for optimizer in optimizers:
            optimizer.zero_grad(set_to_none=True)
        value.backward()
        gradients.append([parameter.grad.clone() for parameter in working.parameters()])
        for optimizer in optimizers:
            optimizer.step()
    for module in synthesis.modules:
        module.requires_grad_(False)
    synthesis.end()
    return gradients


def brightness(images: Tensor) -> Tensor:
    return images.square().mean()


def adam_after(began: list[Tensor], gradients: list[list[Tensor]], lr: float) -> list[Tensor]:
    """Where Adam is after steps with these gradients, from its definition."""
    first = [torch.zeros_like(one) for one in began]
    second = [torch.zeros_like(one) for one in began]
    for number, step in enumerate(gradients, start=1):
        first = [0.5 * old + 0.5 * new for old, new in zip(first, step, strict=True)]
        second = [0.999 * old + 0.001 * new**2 for old, new in zip(second, step, strict=True)]
        moved = [
            lr * (m / (1 - 0.5**number)) / ((v / (1 - 0.999**number)).sqrt() + 1e-8) for m, v in zip(first, second, strict=True)
        ]
        began = [one - move for one, move in zip(began, moved, strict=True)]
    return began


def assert_near(found: list[Tensor], wanted: list[Tensor]) -> None:
    for one, other in zip(found, wanted, strict=True):
        assert torch.allclose(one, other, rtol=1e-4, atol=1e-6)


def test_a_turn_begins_from_the_meta_generator_and_fresh_latents(teacher: Teacher) -> None:
    synthesis = made(tiny(), teacher)
    turn(synthesis, brightness)
    latents = [parameter.clone() for parameter in synthesis.modules[1].parameters()]
    synthesis.begin()
    assert_near([parameter.detach() for parameter in synthesis.modules[0].parameters()], weights(meta(synthesis)))
    assert all(not torch.equal(old, new) for old, new in zip(latents, synthesis.modules[1].parameters(), strict=True))


def test_it_learns_by_adam_from_the_sum_of_a_turns_gradients(teacher: Teacher) -> None:
    synthesis = made(tiny(), teacher)
    began = weights(meta(synthesis))
    sums = []
    for _ in range(2):
        gradients = turn(synthesis, brightness)
        sums.append([torch.stack(parts).sum(dim=0) for parts in zip(*gradients, strict=True)])
    assert_near(weights(meta(synthesis)), adam_after(began, sums, lr=0.01 * STEPS))


def test_or_from_how_far_a_turn_has_moved_the_generator(teacher: Teacher) -> None:
    synthesis = made(tiny(meta_generator__learns_by="reptile"), teacher)
    began = weights(meta(synthesis))
    turn(synthesis, brightness)
    ended = weights(synthesis.modules[0])
    gradients = [67.0 * (one - other) for one, other in zip(began, ended, strict=True)]
    assert_near(weights(meta(synthesis)), adam_after(began, [gradients], lr=0.01 * STEPS))


def test_latents_have_a_rate_of_their_own(teacher: Teacher) -> None:
    synthesis = made(tiny(meta_generator__latent_lr=0.25), teacher)
    synthesis.begin()
    (optimizer,) = synthesis.optimizers()
    assert [group["lr"] for group in optimizer.param_groups] == [0.01, 0.25]


def test_its_projection_and_first_norm_are_drawn_anew_once(teacher: Teacher) -> None:
    synthesis = made(tiny(meta_generator__redraw_after=2), teacher)
    scales = []
    for _ in range(4):
        turn(synthesis, brightness)
        scales.append(meta(synthesis).norm0.weight.abs().mean().item())
    assert scales[0] > 0.5, "a norm's scale begins at 1"
    assert scales[1] < 0.1, "and is drawn around 0, as the published code does"
    assert all(scale < 0.5 for scale in scales[2:])


def test_its_statistics_stay_as_they_were_drawn(teacher: Teacher) -> None:
    synthesis = made(tiny(), teacher)
    turn(synthesis, brightness)
    assert not meta(synthesis).norm0.running_mean.any()


def test_the_turns_are_counted_across_a_resume(teacher: Teacher) -> None:
    first = Distiller(tiny(meta_generator__redraw_after=3), teacher)
    for _ in range(2):
        first.train_epoch()
    second = Distiller(tiny(meta_generator__redraw_after=3), teacher)
    second.continue_after(2, first.parts_state())
    first.train_epoch(), second.train_epoch()
    assert second.parts_state()["turns"] == {"number": 3}
    one, other = (run.parts_state()["generator"]["norm0.weight"] for run in (first, second))
    assert torch.equal(one, other)
    assert one.abs().max() < 0.2


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"generator__family": "large"}, r"generator\.family must be small for method fast_dfkd, got 'large'"),
        ({"inversion__clip": True}, r"inversion\.clip must be left out for method fast_dfkd"),
        ({"precision": "fp16"}, r"precision must not be fp16 for method fast_dfkd"),
        ({"meta_generator__latent_lr": 0.0}, r"meta_generator\.latent_lr must be > 0"),
        ({"meta_generator__redraw_after": 0}, r"meta_generator\.redraw_after must be > 0"),
        ({"meta_generator__statistics_momentum": -0.1}, r"meta_generator\.statistics_momentum must be in \[0, 1\)"),
    ],
)
def test_settings_that_it_does_not_have_are_refused(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        tiny(**changes)
