"""What holds for every method and preset: finite terms, routing of updates, a frozen teacher, and runs that resume exactly."""

import math
from typing import Any

import pytest
import torch

from cpsc import checkpoint, loop
from cpsc.config import DistillConfig
from cpsc.distiller import Distiller
from cpsc.errors import ConfigError
from cpsc.methods import METHODS
from tests.support.configs import config_of, laid
from tests.unit.cpsc.test_distiller import copy_of, differences, without_timings

SMALL: dict[str, Any] = {
    "seed": 3,
    "epochs": 4,
    "student": {"arch": "wrn_10_1", "warmup_epochs": 1, "milestones": [1, 3]},
    "generator": {"latent_dim": 8, "width": 4},
    "schedule": {"iterations": 2, "generator_steps": 2, "student_steps": 3, "batch_size": 8},
    "precision": "fp32",
}
SMALL_PARTS: dict[str, dict[str, Any]] = {
    "cmi": {"schedule": {"student_batch_size": 4}, "cmi": {"bank_size": 16, "candidates": 6, "projection_dim": 5}},
    "pre_dfkd": {"replay": {"latent_dim": 6, "updates": 2}},
    "dfq": {"schedule": {"generator_warmup_epochs": 1}},
    "fast_dfkd": {
        "meta_generator": {"redraw_after": 2},
        "schedule": {"student_batch_size": 4, "generator_warmup_epochs": 1, "generator_turns": 2},
    },
    "nayer": {
        "noisy_layer": {"life": 2},
        "schedule": {"student_batch_size": 4, "generator_warmup_epochs": 1, "generator_warmup_turns": 3, "batch_size": 10},
    },
}
CASES = [(method, name, "none") for method, kind in METHODS.items() for name in kind.PRESETS]
CASES += [("cpsc", "paper", "vae"), ("dafl", "original", "vae"), ("dfad", "original", "vae")]
CASES += [("tests.unit.cpsc.ninth_method:Doubt", "original", "none"), ("tests.unit.cpsc.ninth_method:Doubt", "original", "vae")]


def small(method: str, name: str, replay: str = "none", **changes: Any) -> DistillConfig:
    own = {**SMALL, "method": method}
    if replay == "vae":
        own["replay"] = {"kind": "vae", "latent_dim": 6, "updates": 2}
    return config_of(laid(own, SMALL_PARTS.get(method, {})), changes, name=name, num_classes=4)


@pytest.fixture(params=CASES, ids="-".join)
def case(request: pytest.FixtureRequest) -> DistillConfig:
    return small(*request.param)


def parameters(distiller: Distiller) -> dict[str, Any]:
    modules = {"student": distiller.student, "method": distiller.method}
    modules |= {f"synthesis {i}": module for i, module in enumerate(distiller.synthesis.modules)}
    if distiller.replay is not None:
        modules["replay"] = distiller.replay
    return {name: copy_of(dict(module.named_parameters())) for name, module in modules.items()}


def test_an_epoch_is_finite_and_moves_all_that_should_move(case: DistillConfig, teacher, probe, real_images) -> None:
    distiller = Distiller(case, teacher, probe=probe, test=real_images)
    for _ in range(2):  # the first may warm up the generator alone
        before = parameters(distiller)
        metrics = distiller.run_epoch()
    assert all(math.isfinite(value) for value in metrics.values())
    for name, state in before.items():
        moved = differences(state, parameters(distiller)[name])
        assert name == "method" or moved, f"{name} stood still"
    assert 0.0 <= metrics["generator_class_balance"] <= 1.0


def test_each_phase_updates_its_own_network_and_nothing_else(case: DistillConfig, teacher, monkeypatch: pytest.MonkeyPatch) -> None:
    distiller, run_phase = Distiller(case, teacher), loop.run_phase
    changed: list[tuple[str, set[str]]] = []

    def watched(phase: loop.Phase, log: loop.TermLog) -> None:
        before = parameters(distiller)
        run_phase(phase, log)
        after = parameters(distiller)
        changed.append((phase.name, {name for name in before if differences(before[name], after[name])}))

    monkeypatch.setattr(loop, "run_phase", watched)
    for _ in range(2):
        distiller.run_epoch()
    synthesis = {name for name in parameters(distiller) if name.startswith("synthesis")}
    allowed = {"student": {"student"}, "generator": {*synthesis, "method"}, "replay": {"replay"}}
    for name, parts in changed:
        assert parts <= allowed[name], name
    assert {name for name, _ in changed} == {"student", "generator"} | ({"replay"} if case.replay.kind == "vae" else set())


def test_the_teacher_is_bit_identical_and_has_no_gradient(case: DistillConfig, teacher, probe) -> None:
    distiller = Distiller(case, teacher, probe=probe)
    for _ in range(2):
        distiller.run_epoch()
    assert differences(dict(distiller.teacher.state_dict()), dict(teacher.state)) == []
    assert not distiller.teacher.training
    assert all(p.grad is None and not p.requires_grad for p in distiller.teacher.parameters())
    assert not any(p.requires_grad for module in (distiller.student, distiller.method) for p in module.parameters())


@pytest.mark.slow
def test_two_epochs_and_two_more_after_a_file_equal_four_bit_for_bit(
    case: DistillConfig, teacher, probe, real_images, tmp_path
) -> None:
    arguments = {"probe": probe, "test": real_images}
    straight = Distiller(case, teacher, **arguments)
    expected = [without_timings(straight.run_epoch()) for _ in range(4)]
    first = Distiller(case, teacher, **arguments)
    for _ in range(2):
        first.run_epoch()
    checkpoint.save(first.state_dict(), tmp_path / "run.pt")
    second = Distiller(case, teacher, **arguments)
    second.load_state_dict(checkpoint.load(tmp_path / "run.pt", kind="run"))
    torch.manual_seed(1)  # nothing may hang on torch's own generator
    assert [without_timings(second.run_epoch()) for _ in range(2)] == expected[2:]
    assert differences(second.state_dict(), straight.state_dict()) == []


@pytest.mark.slow
def test_a_look_at_the_images_changes_nothing(case: DistillConfig, teacher) -> None:
    looked, plain = Distiller(case, teacher), Distiller(case, teacher)
    looked.run_epoch(), plain.run_epoch()
    grid = looked.sample_grid()
    assert grid.shape == (4, 8, 1, 8, 8)
    assert torch.equal(grid, looked.sample_grid())
    assert differences(looked.state_dict(), plain.state_dict()) == []
    assert without_timings(looked.run_epoch()) == without_timings(plain.run_epoch())


def test_a_teacher_without_batch_norm_is_refused_where_its_statistics_are_needed(case: DistillConfig, teacher, monkeypatch) -> None:
    bare = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(64, 4))
    bare.feature_dim = 32
    monkeypatch.setattr(type(teacher), "build", lambda self, device, **named: bare)
    if case.weights.batch_statistics:
        with pytest.raises(ConfigError, match=r"teacher has no BatchNorm2d layer"):
            Distiller(case, teacher)
