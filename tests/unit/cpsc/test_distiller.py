import math
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
import torch

from cpsc import checkpoint, loop, observation
from cpsc.config import DistillConfig, GeneratorConfig
from cpsc.device import cast_copies
from cpsc.distiller import Distiller
from cpsc.errors import CheckpointError, ConfigError, DivergedError
from cpsc.methods.cpsc import CpscConfig
from cpsc.metrics import predict
from cpsc.models import Output
from cpsc.presets import preset
from cpsc.probe import ProbeSet
from cpsc.teacher import Teacher

SUFFIXES = ("", "_mean", "_std", "_max", "_late_mean", "_late_std")
TIMINGS = {"train_s", "generation_s", "distillation_s", "epoch_s", "images_per_s", "peak_memory_bytes"}


def without_timings(metrics: dict[str, float]) -> dict[str, float]:
    return {name: value for name, value in metrics.items() if name not in TIMINGS}


def copy_of(state: Any) -> Any:
    if isinstance(state, torch.Tensor):
        return state.detach().clone()
    if isinstance(state, dict):
        return {key: copy_of(value) for key, value in state.items()}
    return [copy_of(value) for value in state] if isinstance(state, list | tuple) else state


def differences(first: Any, second: Any, path: str = "") -> list[str]:
    """Paths at which two nested states are not bit for bit the same."""
    if isinstance(first, torch.Tensor) and isinstance(second, torch.Tensor):
        return [] if first.dtype == second.dtype and torch.equal(first, second) else [path]
    if isinstance(first, dict) and isinstance(second, dict):
        if first.keys() != second.keys():
            return [path]
        return [found for key in first for found in differences(first[key], second[key], f"{path}/{key}")]
    if isinstance(first, list | tuple):
        if len(first) != len(second):
            return [path]
        return [found for i, pair in enumerate(zip(first, second, strict=True)) for found in differences(*pair, f"{path}/{i}")]
    return [] if first == second else [path]


def check_resumed_equals_straight(config: DistillConfig, teacher: Teacher, probe: ProbeSet, file: Path) -> list[dict[str, float]]:
    """Four epochs straight on, and two and two more after a `file`, are the same in metrics and state -> the metrics by epoch."""
    straight, first, second = (Distiller(config, teacher, probe=probe) for _ in range(3))
    expected = [without_timings(straight.run_epoch()) for _ in range(4)]
    for _ in range(2):
        first.run_epoch()
    checkpoint.save(first.state_dict(), file)
    second.load_state_dict(checkpoint.load(file, kind="run"))
    assert [without_timings(second.run_epoch()) for _ in range(2)] == expected[2:]
    assert differences(second.state_dict(), straight.state_dict()) == []
    return expected


@contextmanager
def phases_watched(distiller: Distiller) -> Iterator[list[tuple[str, set[str]]]]:
    """Collects (phase, parts whose state it changed) for every phase that runs inside the block."""
    changed: list[tuple[str, set[str]]] = []
    run_phase = loop.run_phase

    def parts() -> dict[str, Any]:
        modules = {"student": distiller.student, "generator": distiller.generator, "method": distiller.method}
        parameters = {name: copy_of(dict(module.named_parameters())) for name, module in modules.items()}
        buffers = {f"{name} buffers": copy_of(dict(module.named_buffers())) for name, module in modules.items()}
        return parameters | buffers | {"teacher": copy_of(dict(distiller.teacher.state_dict()))}

    def watched(phase: loop.Phase, log: loop.TermLog) -> None:
        before = parts()
        run_phase(phase, log)
        after = parts()
        changed.append((phase.name, {name for name in before if differences(before[name], after[name])}))

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(loop, "run_phase", watched)
        yield changed


@pytest.fixture
def reference(vary):
    changes = preset("reference", num_classes=4)
    return vary(generator=changes["generator"], cpsc=changes["cpsc"])


# Same numbers


def resumed_case(name: str, vary, reference, make_teacher):
    if name == "paper":
        return vary(), make_teacher()
    if name == "reference":
        return reference, make_teacher()
    config = vary(student={"arch": "wrn_16_1"}, epochs=4)
    return config, make_teacher("wrn_16_2")


@pytest.mark.parametrize("case", ["paper", "reference", "adapter"])
@pytest.mark.slow
def test_two_epochs_and_two_more_after_a_file_equal_four_bit_for_bit(
    case, vary, reference, make_teacher, make_probe, real_images, tmp_path
) -> None:
    config, teacher = resumed_case(case, vary, reference, make_teacher)
    arguments = {"probe": make_probe(teacher), "test": real_images}
    straight = Distiller(config, teacher, **arguments)
    expected = [without_timings(straight.run_epoch()) for _ in range(4)]

    first = Distiller(config, teacher, **arguments)
    for _ in range(2):
        first.run_epoch()
    checkpoint.save(first.state_dict(), tmp_path / "run.pt")
    second = Distiller(config, teacher, **arguments)
    second.load_state_dict(checkpoint.load(tmp_path / "run.pt", kind="run"))
    continued = [without_timings(second.run_epoch()) for _ in range(2)]

    assert continued == expected[2:]
    assert differences(second.state_dict(), straight.state_dict()) == []
    assert differences(second.best_student, straight.best_student) == []
    assert second.best_metrics == straight.best_metrics


def test_the_resumed_parts_hold_what_a_run_needs_to_go_on(config, teacher) -> None:
    distiller = Distiller(config, teacher)
    distiller.run_epoch()
    parts = distiller.state_dict()["parts"]
    assert parts.keys() == {"student", "generator", "method", "rng"} | {
        f"{side}_{part}" for side in ("student", "generator") for part in ("optimizer", "scaler")
    }
    assert all("momentum_buffer" in state for state in parts["student_optimizer"]["state"].values())
    assert all("exp_avg_sq" in state for state in parts["generator_optimizer"]["state"].values())


def test_the_same_seed_gives_identical_metrics_whatever_the_global_generator_holds(config, teacher, probe) -> None:
    runs = []
    for global_seed in (0, 1):
        torch.manual_seed(global_seed)
        distiller = Distiller(config, teacher, probe=probe)
        runs.append(([without_timings(distiller.run_epoch()) for _ in range(2)], copy_of(distiller.student.state_dict())))
    assert runs[0][0] == runs[1][0]
    assert differences(runs[0][1], runs[1][1]) == []


def test_training_leaves_the_global_generator_alone(config, teacher) -> None:
    distiller = Distiller(config, teacher)
    before = torch.get_rng_state()
    distiller.run_epoch()
    assert torch.equal(torch.get_rng_state(), before)


def test_another_seed_gives_other_weights_and_metrics(vary, teacher) -> None:
    first, second = Distiller(vary(seed=1), teacher), Distiller(vary(seed=2), teacher)
    assert differences(first.student.state_dict(), second.student.state_dict())
    assert differences(first.generator.state_dict(), second.generator.state_dict())
    assert without_timings(first.run_epoch()) != without_timings(second.run_epoch())


@pytest.mark.parametrize(
    "change",
    [
        {"cpsc": {"label_input": "probs"}},
        {"cpsc": {"l2": "log_mse"}},
        {"cpsc": {"l2": "mse"}},
        {"cpsc": {"l2_detach_teacher": True}},
        {"cpsc": {"contrast": "two_view"}},
        {"cpsc": {"contrast_base_temperature": 0.7}},
        {"cpsc": {"adapter_renormalise": False}},
        {"cpsc": {"adapter_train": False}},
        {"generator": {"optimizer": "fresh"}},
        {"generator": {"decay_lr": False}},
        {"generator": {"embedding": "three_layer"}},
        {"student": {"train_mode_in_generator_phase": False}},
        {"student": {"final_lr_fraction": 0.5}},
        {"weights": {"adversarial": 0.5}},
        {"distillation_temperature": 4.0},
        {"contrast_temperature": 0.5},
    ],
    ids=str,
)
@pytest.mark.slow
def test_every_switch_changes_the_generator_or_student_that_two_epochs_train(change, vary, make_teacher) -> None:
    # The adapter's switches need networks of different width; the other switches do not mind them.
    teacher, trained = make_teacher("wrn_10_2"), []
    for run_config in (vary(), vary(**change)):
        distiller = Distiller(run_config, teacher)
        for _ in range(2):
            distiller.run_epoch()
        trained.append([p.sum().item() for module in (distiller.generator, distiller.student) for p in module.parameters()])
    assert trained[0] != trained[1]


# Who is trained when


@pytest.mark.parametrize("arch", ["wrn_10_1", "wrn_10_2"])
def test_generator_phases_change_no_student_parameter_and_student_phases_none_of_the_generator(arch, config, make_teacher) -> None:
    distiller = Distiller(config, make_teacher(arch))
    with phases_watched(distiller) as changed:
        distiller.run_epoch()
    assert [name for name, _ in changed] == ["generator", "student"] * 2
    adapter = {"method"} if arch == "wrn_10_2" else set()
    for name, parts in changed:
        if name == "generator":
            assert parts == {"generator", "generator buffers", "student buffers"} | adapter
        else:
            assert parts == {"student", "student buffers", "generator buffers"}


def test_only_the_network_whose_turn_it_is_requires_gradients(config, make_teacher) -> None:
    distiller = Distiller(config, make_teacher("wrn_10_2"))
    modules = {
        "student": distiller.student,
        "generator": distiller.generator,
        "method": distiller.method,
        "teacher": distiller.teacher,
    }
    seen: dict[str, set[str]] = {}

    def spied(phase: str, terms):
        def look(view):
            seen[phase] = {name for name, module in modules.items() if any(p.requires_grad for p in module.parameters())}
            return terms(view)

        return look

    distiller.method.generator_terms = spied("generator", distiller.method.generator_terms)
    distiller.method.student_terms = spied("student", distiller.method.student_terms)
    distiller.run_epoch()
    assert seen == {"generator": {"generator", "method"}, "student": {"student"}}
    assert not any(p.requires_grad for module in modules.values() for p in module.parameters())


@pytest.mark.parametrize("trains", [True, False])
def test_the_adapter_trains_with_the_generator_unless_switched_off(trains: bool, vary, make_teacher) -> None:
    config = vary() if trains else vary(cpsc={"adapter_train": False})
    distiller = Distiller(config, make_teacher("wrn_10_2"))
    before = copy_of(distiller.method.state_dict())
    distiller.run_epoch()
    changed = differences(before, distiller.method.state_dict())
    assert sorted(changed) == (["/adapter.0.bias", "/adapter.0.weight", "/adapter.2.bias", "/adapter.2.weight"] if trains else [])


def test_the_teacher_is_bit_identical_after_training_and_has_no_gradients(config, teacher, probe) -> None:
    distiller = Distiller(config, teacher, probe=probe)
    for _ in range(2):
        distiller.run_epoch()
    assert differences(dict(distiller.teacher.state_dict()), dict(teacher.state)) == []
    assert not distiller.teacher.training
    assert all(p.grad is None and not p.requires_grad for p in distiller.teacher.parameters())


@pytest.mark.parametrize(("train_mode", "updates_per_iteration"), [(True, 4), (False, 2)])
def test_generator_steps_update_the_students_running_statistics_only_in_train_mode(
    train_mode: bool, updates_per_iteration: int, vary, teacher
) -> None:
    distiller = Distiller(vary(student={"train_mode_in_generator_phase": train_mode}), teacher)
    distiller.run_epoch()
    assert distiller.student.bn1.num_batches_tracked.item() == 2 * updates_per_iteration


def test_a_smoke_run_from_a_wide_to_a_thin_network_is_finite_and_moves_all_networks(vary, make_teacher) -> None:
    config = vary(student={"arch": "wrn_16_1"}, schedule={"batch_size": 64, "generator_steps": 1, "student_steps": 1})
    distiller = Distiller(config, make_teacher("wrn_16_2"))
    modules = {"student": distiller.student, "generator": distiller.generator, "method": distiller.method}
    before = {name: copy_of(dict(module.named_parameters())) for name, module in modules.items()}
    metrics = distiller.run_epoch()
    assert all(math.isfinite(value) for value in metrics.values())
    for name, module in modules.items():
        moved = differences(before[name], dict(module.named_parameters()))
        assert len(moved) == len(before[name]), f"{name}: {before[name].keys() - {path[1:] for path in moved}} stood still"


# The generator's optimizer


def test_the_first_step_of_a_fresh_adam_moves_every_weight_by_the_learning_rate(reference, teacher) -> None:
    one_step = replace(reference, schedule=replace(reference.schedule, iterations=1, generator_steps=1, student_steps=1))
    distiller = Distiller(one_step, teacher)
    before = copy_of(dict(distiller.generator.named_parameters()))
    distiller.run_epoch()
    checked = 0
    for name, parameter in distiller.generator.named_parameters():
        clear = parameter.grad.abs() > 1e-4
        movement = (parameter - before[name])[clear]
        torch.testing.assert_close(movement, -1e-3 * parameter.grad[clear].sign(), rtol=1e-3, atol=1e-6)
        checked += int(clear.sum())
    assert checked > 100


@pytest.mark.parametrize(("optimizer", "has_memory"), [("fresh", False), ("persistent", True)])
def test_only_the_persistent_adam_remembers_earlier_steps(optimizer: str, has_memory: bool, vary, teacher) -> None:
    config = vary(generator={"optimizer": optimizer, "milestones": ()}, schedule={"iterations": 1, "generator_steps": 3})
    distiller = Distiller(config, teacher)
    before = torch.cat([p.detach().flatten().clone() for p in distiller.generator.parameters()])
    distiller.run_epoch()
    after = torch.cat([p.detach().flatten() for p in distiller.generator.parameters()])
    # Without memory three steps of one learning rate each end at 1 or 3 of it, whatever their signs.
    rates = ((after - before) / 1e-3).abs()
    in_whole_steps = ((rates - 1).abs() < 0.02) | ((rates - 3).abs() < 0.02)
    assert (in_whole_steps.float().mean().item() < 0.5) == has_memory
    assert bool(distiller.state_dict()["parts"]["generator_optimizer"]["state"]) == has_memory


@pytest.mark.parametrize("optimizer", ["fresh", "persistent"])
def test_learning_rates_follow_the_schedule_and_reach_the_optimizers(optimizer: str, vary, teacher) -> None:
    config = vary(generator={"optimizer": optimizer}, schedule={"iterations": 1, "generator_steps": 1, "student_steps": 1})
    distiller = Distiller(config, teacher)
    largest = []
    for _ in range(4):
        before = torch.cat([p.detach().flatten().clone() for p in distiller.generator.parameters()])
        metrics = distiller.run_epoch()
        after = torch.cat([p.detach().flatten() for p in distiller.generator.parameters()])
        largest.append((metrics["student_lr"], metrics["generator_lr"], (after - before).abs().max().item()))
    student, generator, moved = zip(*largest, strict=True)
    assert student == pytest.approx([0.1, 0.075, 0.025, 0.0], abs=1e-9)
    assert generator == pytest.approx([1e-3, 1e-4, 1e-4, 1e-5])
    # Adam moves no weight by much more than its rate (sqrt of the bias corrections' quotient at most).
    assert all(0.3 * rate < step < 3 * rate for rate, step in zip(generator, moved, strict=True))


def test_a_student_at_learning_rate_zero_stands_still(vary, teacher) -> None:
    distiller = Distiller(vary(), teacher)
    for _ in range(3):
        distiller.run_epoch()
    before = copy_of(dict(distiller.student.named_parameters()))
    distiller.run_epoch()
    assert differences(before, dict(distiller.student.named_parameters())) == []


# What is measured


def test_an_epoch_reports_every_weighted_term_and_the_measurements(config, teacher, probe, real_images) -> None:
    metrics = Distiller(config, teacher, probe=probe, test=real_images).run_epoch()
    terms = {f"generator/{name}" for name in ("adversarial_kl", "adversarial_l2", "batch_statistics", "contrast", "label")}
    terms |= {"student/kl", "student/l2", "student/label"}
    curves = {f"{name}{suffix}" for name in ("probe_overlap", "probe_agreement", "test_accuracy") for suffix in SUFFIXES}
    assert metrics.keys() == terms | curves | TIMINGS | {
        "epoch",
        "untrained_agreement",
        "student_lr",
        "generator_lr",
        "generator_label_agreement",
        "generator_class_balance",
        "replay_bytes",
        "generation_images",
        "distillation_images",
        "test_agreement",
        "probe_kl",
        "best_epoch",
        "best_probe_agreement",
    }
    assert 0 <= metrics["generator_label_agreement"] <= 1
    assert metrics["generator/adversarial_kl"] < 0 < metrics["student/kl"]


def test_an_epoch_tells_what_images_took_and_what_the_student_took(config, teacher, probe) -> None:
    schedule = config.schedule
    metrics = Distiller(config, teacher, probe=probe).run_epoch()
    assert metrics["generation_images"] == schedule.iterations * schedule.generator_steps * schedule.batch_size
    assert metrics["distillation_images"] == schedule.iterations * schedule.student_steps * schedule.batch_size
    assert min(metrics["generation_s"], metrics["distillation_s"]) > 0
    assert metrics["generation_s"] + metrics["distillation_s"] == pytest.approx(metrics["train_s"])


def test_images_that_are_drawn_for_the_student_count_as_generation(config, teacher, probe, monkeypatch) -> None:
    run = Distiller(config, teacher, probe=probe)
    clock = iter(range(1000))
    monkeypatch.setattr("cpsc.stopwatch.time.perf_counter", lambda: float(next(clock)))
    metrics = run.train_epoch()
    turns = config.schedule.iterations * (1 + config.schedule.student_steps)  # one a generator's turn, one a student's batch
    assert metrics["generation_s"] == turns


def test_without_the_extra_weights_an_epoch_reports_only_the_kl(vary, teacher) -> None:
    config = vary(weights={"l2": 0.0, "batch_statistics": 0.0, "contrast": 0.0, "label": 0.0})
    metrics = Distiller(config, teacher).run_epoch()
    assert {name for name in metrics if "/" in name} == {"generator/adversarial_kl", "student/kl"}


def test_label_agreement_is_the_share_of_generated_images_that_the_teacher_gives_their_label(vary, teacher) -> None:
    distiller = Distiller(vary(), teacher)
    hits, generator_terms = [], distiller.method.generator_terms

    def counted(view):
        hits.append((view.teacher.logits.argmax(1) == view.labels).float().mean().item())
        return generator_terms(view)

    distiller.method.generator_terms = counted
    for _ in range(2):
        hits.clear()
        assert distiller.run_epoch()["generator_label_agreement"] == pytest.approx(sum(hits) / 4)


def test_a_student_that_is_the_teacher_agrees_with_it_fully(config, teacher, probe) -> None:
    distiller = Distiller(config, teacher, probe=probe)
    distiller.student.load_state_dict(dict(teacher.state))
    metrics = distiller.evaluate()
    assert metrics["probe_agreement"] == 1.0
    assert metrics["probe_kl"] == pytest.approx(0.0, abs=1e-6)


def test_test_accuracy_is_the_share_of_real_images_classified_right(config, teacher, real_images) -> None:
    distiller = Distiller(config, teacher, test=real_images)
    network = distiller.student.eval()
    with torch.no_grad():
        predicted = network(teacher.normalisation.normalise(real_images.images)).logits.argmax(dim=1)
    answers = predict(distiller.teacher, teacher.normalisation.normalise(real_images.images)).argmax(dim=1)
    assert distiller.evaluate() == {
        "test_accuracy": pytest.approx((predicted == real_images.labels).float().mean().item()),
        "test_agreement": pytest.approx((predicted == answers).float().mean().item()),
    }


def test_looking_at_the_run_changes_nothing(config, teacher, probe, real_images) -> None:
    looked, plain = (Distiller(config, teacher, probe=probe, test=real_images) for _ in range(2))
    looked.run_epoch()
    plain.run_epoch()
    for _ in range(2):
        looked.evaluate()
        looked.sample_grid()
    assert looked.student.training
    assert looked.generator.training
    assert differences(looked.state_dict(), plain.state_dict()) == []
    assert without_timings(looked.run_epoch()) == without_timings(plain.run_epoch())


def test_the_grid_shows_one_row_per_class_and_is_the_same_at_every_look(config, teacher) -> None:
    distiller = Distiller(config, teacher)
    first = distiller.sample_grid()
    assert first.shape == (4, 8, 1, 8, 8)
    assert first.dtype == torch.uint8
    assert torch.equal(distiller.sample_grid(), first)
    distiller.run_epoch()
    assert not torch.equal(distiller.sample_grid(), first)


def test_a_row_of_the_grid_is_made_for_its_class(config, teacher) -> None:
    distiller = Distiller(config, teacher)
    plain = distiller.sample_grid()
    with torch.no_grad():
        distiller.generator.norm_image.shift[2] += 10.0  # far beyond white
    shifted = distiller.sample_grid()
    assert (shifted[2] == 255).all()
    assert torch.equal(shifted[[0, 1, 3]], plain[[0, 1, 3]])


@pytest.mark.parametrize("given", ["nothing", "probe", "test"])
def test_a_run_works_with_whatever_images_there_are(given: str, config, teacher, probe, real_images) -> None:
    arguments = {"nothing": {}, "probe": {"probe": probe}, "test": {"test": real_images}}[given]
    metrics = Distiller(config, teacher, **arguments).run_epoch()
    assert ("probe_agreement" in metrics) == ("probe_kl" in metrics) == (given == "probe")
    assert ("test_accuracy" in metrics) == (given == "test")
    assert metrics["epoch"] == 1


def scripted(distiller: Distiller, script: list[dict[str, float]]) -> list[dict[str, torch.Tensor]]:
    """Train one epoch per scripted measurement; the student's weights after each."""
    values = iter(script)
    distiller.evaluate = lambda: dict(next(values))
    students = []
    for _ in script:
        distiller.run_epoch()
        students.append(copy_of(dict(distiller.student.state_dict())))
    assert all(differences(before, after) for before, after in pairwise(students))
    return students


@pytest.mark.parametrize(
    ("agreements", "kls", "best"),
    [
        ([0.2, 0.9, 0.5], [1.0, 1.0, 0.1], 2),
        ([0.9, 0.9, 0.9], [3.0, 1.0, 2.0], 2),
        ([0.9, 0.9, 0.9], [1.0, 1.0, 1.0], 1),
        ([0.1, 0.2, 0.3], [1.0, 2.0, 3.0], 3),
    ],
    ids=["highest", "tie: lower KL", "tie: earlier", "last"],
)
def test_the_best_epochs_student_is_kept(agreements, kls, best: int, config, teacher, probe) -> None:
    distiller = Distiller(config, teacher, probe=probe)
    script = [{"probe_agreement": a, "probe_kl": kl} for a, kl in zip(agreements, kls, strict=True)]
    students = scripted(distiller, script)
    assert differences(distiller.best_student, students[best - 1]) == []
    assert distiller.best_metrics == script[best - 1]


def test_running_figures_follow_the_curve(config, teacher, probe) -> None:
    distiller = Distiller(config, teacher, probe=probe)
    script = iter([0.2, 0.6, 0.4])
    distiller.evaluate = lambda: {"probe_agreement": next(script), "probe_kl": 1.0}
    metrics = [distiller.run_epoch() for _ in range(3)]
    assert [m["best_epoch"] for m in metrics] == [1, 2, 2]
    assert [m["best_probe_agreement"] for m in metrics] == [0.2, 0.6, 0.6]
    assert metrics[-1]["probe_agreement_mean"] == pytest.approx(0.4)
    assert metrics[-1]["probe_agreement_std"] == pytest.approx(math.sqrt((0.04 + 0.04) / 3))
    assert metrics[-1]["probe_agreement_max"] == 0.6


@pytest.mark.parametrize(("objective", "best"), [("probe_agreement", 1), ("test_accuracy", 2)])
def test_the_objective_decides_which_epoch_is_best(objective: str, best: int, config, teacher, probe, real_images) -> None:
    distiller = Distiller(config, teacher, probe=probe, test=real_images, objective=objective)
    script = [{"probe_agreement": a, "probe_kl": 1.0, "test_accuracy": b} for a, b in ((0.9, 0.1), (0.5, 0.8), (0.4, 0.3))]
    students = scripted(distiller, script)
    assert differences(distiller.best_student, students[best - 1]) == []
    assert distiller.best_metrics[objective] == max(epoch[objective] for epoch in script)


# What is refused


def test_there_is_no_best_student_before_the_first_epoch(config, teacher) -> None:
    distiller = Distiller(config, teacher)
    with pytest.raises(CheckpointError, match="no epoch is complete yet"):
        _ = distiller.best_student
    assert (distiller.best_epoch, distiller.best_metrics) == (0, {})


def test_an_unknown_objective_is_refused(config, teacher) -> None:
    with pytest.raises(
        ConfigError, match="objective 'accuracy': unknown, use one of exam_score, probe_overlap, probe_agreement, test_accuracy"
    ):
        Distiller(config, teacher, objective="accuracy")


def test_a_probe_made_from_another_teacher_is_refused(config, teacher, make_teacher, make_probe) -> None:
    with pytest.raises(ConfigError, match="made from another teacher"):
        Distiller(config, teacher, probe=make_probe(make_teacher(seed=1)))


def test_an_unknown_student_is_refused(vary, teacher) -> None:
    with pytest.raises(ConfigError, match="arch 'alexnet': unknown network"):
        Distiller(vary(student={"arch": "alexnet"}), teacher)


def test_a_state_of_another_version_is_refused(config, teacher) -> None:
    distiller = Distiller(config, teacher)
    with pytest.raises(CheckpointError, match="state version 99, expected 1"):
        distiller.load_state_dict(distiller.state_dict() | {"version": 99})


@pytest.mark.parametrize(
    ("part", "change"), [("student", {"student": {"arch": "wrn_16_1"}}), ("generator", {"generator": {"width": 8}})]
)
def test_a_state_of_other_networks_is_refused_in_one_line_naming_the_part(part: str, change, vary, teacher) -> None:
    state = Distiller(vary(**change), teacher).state_dict()
    with pytest.raises(CheckpointError, match=f"checkpoint's {part} does not fit this config") as caught:
        Distiller(vary(), teacher).load_state_dict(state)
    assert "\n" not in str(caught.value)


def test_a_state_that_lacks_a_part_is_refused_by_name(config, teacher) -> None:
    distiller = Distiller(config, teacher)
    state = distiller.state_dict()
    state["parts"] = {name: value for name, value in state["parts"].items() if name != "rng"}
    with pytest.raises(CheckpointError, match="disagree on parts: rng"):
        distiller.load_state_dict(state)


def test_a_term_that_is_not_finite_ends_the_run_with_its_name(config, teacher) -> None:
    distiller = Distiller(config, teacher)
    student_terms = distiller.method.student_terms
    distiller.method.student_terms = lambda view: student_terms(view) | {"kl": student_terms(view)["kl"] * math.nan}
    with pytest.raises(DivergedError, match="student term kl is not finite at step 1"):
        distiller.run_epoch()


def test_a_term_that_explodes_ends_the_run_with_its_name_and_the_limit(vary, teacher) -> None:
    distiller = Distiller(vary(diverged_above=1e4), teacher)
    student_terms = distiller.method.student_terms
    distiller.method.student_terms = lambda view: student_terms(view) | {"kl": student_terms(view)["kl"] * 0 + 2e4}
    with pytest.raises(DivergedError, match=r"student term kl times its weight is 2e\+04, beyond diverged_above \(10000\)"):
        distiller.run_epoch()


@pytest.mark.parametrize(
    "changes",
    [
        {"version": True},
        {"version": torch.ones(2)},
        {"epoch": "two"},
        {"epoch": 7},
        {"epoch": -1},
        {"history": None},
        {"history": [1.0]},
        {"best_student": 3},
        {"parts": None},
        {"parts": []},
    ],
    ids=str,
)
def test_a_state_whose_entries_are_of_another_kind_is_refused(changes, config, teacher) -> None:
    distiller = Distiller(config, teacher)
    distiller.run_epoch()
    state = distiller.state_dict()
    with pytest.raises(CheckpointError):
        Distiller(config, teacher).load_state_dict(state | changes)


@pytest.mark.parametrize("odd", [None, 3, [], "weights", {"state": 1}, {"latents": None, "labels": None}], ids=str)
@pytest.mark.parametrize("part", ["student", "generator", "student_optimizer", "generator_optimizer", "rng"])
def test_a_part_of_another_kind_is_refused_by_name(part: str, odd: object, config, teacher) -> None:
    distiller = Distiller(config, teacher)
    state = distiller.state_dict()
    with pytest.raises(CheckpointError, match=f"checkpoint's {part} does not fit this config: ") as caught:
        distiller.load_state_dict(state | {"parts": state["parts"] | {part: odd}})
    assert "\n" not in str(caught.value)


# Precision and the absence of batch statistics


def test_losses_see_float32_outputs_in_reduced_precision(vary, teacher) -> None:
    distiller = Distiller(vary(precision="bf16"), teacher)
    seen: set[torch.dtype] = set()
    generator_terms = distiller.method.generator_terms

    def spied(view):
        seen.update(tensor.dtype for output in (view.teacher, view.student) for tensor in Output(*output))
        seen.update(tensor.dtype for layer in view.observed for tensor in layer)
        return generator_terms(view)

    distiller.method.generator_terms = spied
    reduced = distiller.run_epoch()
    assert seen == {torch.float32}
    full = Distiller(vary(), teacher).run_epoch()
    assert reduced["generator/batch_statistics"] != full["generator/batch_statistics"]
    assert reduced["generator/batch_statistics"] == pytest.approx(full["generator/batch_statistics"], rel=0.1)


def test_a_student_whose_weights_are_cast_once_a_turn_trains_as_one_whose_weights_are_cast_at_every_pass(
    vary, teacher, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = vary(precision="bf16")
    once, always = Distiller(config, teacher), Distiller(config, teacher)
    copies: list[int] = []
    monkeypatch.setattr(observation, "cast_copies", lambda *args: copies.append(1) or cast_copies(*args))
    found = [without_timings(once.run_epoch()) for _ in range(2)]
    assert len(copies) == 2 * config.schedule.iterations > 2
    monkeypatch.setattr(observation, "cast_copies", lambda *args: {})
    assert [without_timings(always.run_epoch()) for _ in range(2)] == found
    assert differences(once.state_dict(), always.state_dict()) == []


def test_nothing_is_recorded_where_the_batch_statistics_have_no_weight(vary, teacher) -> None:
    distiller = Distiller(vary(weights={"batch_statistics": 0.0}), teacher)
    observed = []
    generator_terms = distiller.method.generator_terms
    distiller.method.generator_terms = lambda view: observed.append(view.observed) or generator_terms(view)
    metrics = distiller.run_epoch()
    assert all(len(layers) == 0 for layers in observed)
    assert "generator/batch_statistics" not in metrics


def test_defaults_of_switches_are_the_papers(config) -> None:
    assert config.cpsc == CpscConfig()
    assert (GeneratorConfig().optimizer, GeneratorConfig().decay_lr) == ("persistent", True)


# Known defects


def test_a_generator_without_any_term_is_refused_before_training(vary, teacher) -> None:
    with pytest.raises(ConfigError, match="weights"):
        Distiller(vary(weights={"adversarial": 0.0, "batch_statistics": 0.0, "contrast": 0.0, "label": 0.0}), teacher).run_epoch()


def test_an_objective_without_its_images_is_refused(config, teacher, probe) -> None:
    with pytest.raises(ConfigError, match="test_accuracy"):
        Distiller(config, teacher, probe=probe, objective="test_accuracy")


def test_the_last_student_is_the_result_of_a_run_that_measures_nothing(config, teacher) -> None:
    distiller = Distiller(config, teacher)
    for _ in range(2):
        distiller.run_epoch()
    assert differences(distiller.best_student, dict(distiller.student.state_dict())) == []


@pytest.mark.parametrize("missing", ["parts", "epoch", "history", "best_student"])
def test_a_state_that_lacks_an_entry_is_refused(missing: str, config, teacher) -> None:
    distiller = Distiller(config, teacher)
    state = {name: value for name, value in distiller.state_dict().items() if name != missing}
    with pytest.raises(CheckpointError, match=missing):
        distiller.load_state_dict(state)


def test_building_a_run_leaves_the_global_generator_alone(config, teacher) -> None:
    before = torch.get_rng_state()
    Distiller(config, teacher)
    assert torch.equal(torch.get_rng_state(), before)
