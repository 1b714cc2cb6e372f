"""A student that begins with weights of its teacher: some of them, or what makes it compute the same."""

from collections.abc import Callable
from typing import Any

import pytest
import torch

from cpsc.config import DistillConfig
from cpsc.distiller import Distiller
from cpsc.errors import ConfigError
from cpsc.models import build_model, selected_weights
from tests.unit.cpsc.test_distiller import check_resumed_equals_straight
from tests.unit.cpsc.test_method_contract import small


def test_entries_are_taken_at_even_distances_along_every_dimension(make_teacher) -> None:
    large = make_teacher("wrn_10_2").state
    small = selected_weights(large, build_model("wrn_10_1", num_classes=4, channels=1))
    assert torch.equal(small["conv1.weight"], large["conv1.weight"])  # a stem is no wider in a wider network
    assert torch.equal(small["block2.layer.0.conv1.weight"], large["block2.layer.0.conv1.weight"][::2, ::2])
    assert torch.equal(small["bn1.running_var"], large["bn1.running_var"][::2])
    assert torch.equal(small["fc.weight"], large["fc.weight"][:, ::2])
    assert torch.equal(small["fc.bias"], large["fc.bias"])
    three = selected_weights(make_teacher("wrn_10_3").state, build_model("wrn_10_2", num_classes=4, channels=1))
    assert torch.equal(three["bn1.weight"], make_teacher("wrn_10_3").state["bn1.weight"][torch.arange(128) * 3 // 2])


def test_of_a_deeper_network_each_stage_gives_its_first_layers(make_teacher) -> None:
    large = make_teacher("wrn_16_1").state
    small = selected_weights(large, build_model("wrn_10_1", num_classes=4, channels=1))
    assert "block3.layer.1.bn1.weight" in large
    assert all(torch.equal(tensor, large[name]) for name, tensor in small.items())


def test_a_network_selected_from_itself_answers_alike(make_teacher) -> None:
    teacher = make_teacher("wrn_10_1", seed=5)
    copy = build_model("wrn_10_1", num_classes=4, channels=1)
    copy.load_state_dict(selected_weights(teacher.state, copy))
    images = torch.randn(6, 1, 8, 8, generator=torch.Generator().manual_seed(1))
    network = teacher.build(torch.device("cpu"))
    torch.testing.assert_close(copy.eval()(images).logits, network(images).logits)


def test_a_run_begins_so_where_it_is_told(make_teacher, vary: Callable[..., DistillConfig]) -> None:
    teacher = make_teacher("wrn_10_2")
    told = Distiller(vary(student={"initial": "selected"}), teacher).student
    expected = selected_weights(teacher.state, told)
    assert all(torch.equal(tensor, expected[name]) for name, tensor in told.state_dict().items())
    drawn = Distiller(vary(), teacher).student
    assert not torch.equal(drawn.state_dict()["conv1.weight"], expected["conv1.weight"])


def first_seen(run: Distiller, monkeypatch: pytest.MonkeyPatch) -> list[dict[str, Any]]:
    """The student's weights at each student step of an epoch that is run here."""
    seen: list[dict[str, Any]] = []
    terms = run.method.student_terms

    def noted(view: Any) -> Any:
        seen.append({name: value.clone() for name, value in run.student.state_dict().items()})
        return terms(view)

    monkeypatch.setattr(run.method, "student_terms", noted)
    run.train_epoch()
    return seen


def test_a_student_is_reconstructed_once_its_generator_has_had_its_turn(make_teacher, vary, monkeypatch) -> None:
    teacher = make_teacher("wrn_10_2")
    run, drawn = (Distiller(vary(student={"initial": kind, "lr": 1e-4}), teacher) for kind in ("reconstructed", "random"))
    assert torch.equal(run.student.conv1.weight, drawn.student.conv1.weight)
    seen = first_seen(run, monkeypatch)
    torch.testing.assert_close(seen[0]["conv1.weight"], teacher.state["conv1.weight"], atol=0.02, rtol=0)
    chosen = run.state_dict()["parts"]["first_weights"]["channels"]
    assert [len(channels) for channels in chosen] == [16, 32, 64]
    assert torch.equal(seen[0]["bn1.weight"], teacher.state["bn1.weight"][chosen[-1]])
    assert not torch.equal(seen[-1]["conv1.weight"], seen[0]["conv1.weight"])
    weights = run.student.conv1.weight.clone()
    run.train_epoch()
    moved = (run.student.conv1.weight - weights).abs().max()
    assert moved < (seen[0]["conv1.weight"] - drawn.student.conv1.weight).abs().max()  # it has not been made again


@pytest.mark.parametrize(("arch", "selected"), [("wrn_10_2", True), ("resnet18", False)])
def test_weights_are_selected_by_themselves_where_they_can_be(make_teacher, vary, arch: str, selected: bool) -> None:
    teacher = make_teacher(arch)
    begun = Distiller(vary(student={"initial": "auto"}), teacher).student.state_dict()
    drawn = Distiller(vary(), teacher).student.state_dict()
    assert torch.equal(begun["conv1.weight"], teacher.state["conv1.weight"] if selected else drawn["conv1.weight"])


MADE: dict[str, Any] = {
    "student.lr": 0.01,
    "student.initial": "reconstructed",
    "student.hints": 2.0,
    "mixing.blended": 0.5,
    "mixing.dead_leaves": 0.25,
}


@pytest.mark.parametrize(
    ("method", "preset", "further"),
    [
        ("adi", "original", {"inversion.annealing": "cosine", "schedule.student_batch_size": 4}),
        ("cpsc", "paper", {"replay.kind": "images", "replay.rehearsals": 2, "replay.every_epochs": 0, "replay.answers": "kept"}),
        ("cpsc", "paper", {"replay.kind": "images", "replay.rehearsals": 1, "replay.every_epochs": 0, "replay.capacity": 20}),
        ("dfq", "original", {}),
        ("zskt", "original", {}),
        ("nayer", "original", {}),
    ],
)
def test_two_epochs_and_two_more_after_a_file_equal_four_bit_for_bit(
    method: str, preset: str, further: dict[str, Any], make_teacher, make_probe, tmp_path
) -> None:
    teacher = make_teacher("wrn_10_2")
    config, probe = small(method, preset, **(MADE | further)), make_probe(teacher)
    expected = check_resumed_equals_straight(config, teacher, probe, tmp_path / "run.pt")
    assert expected[-1]["student/hints"] > 0
    assert ("rehearsal/hints" in expected[-1]) == (further.get("replay.rehearsals") == 1)  # the others' answers are kept


def test_hints_draw_the_students_stages_towards_the_teachers(make_teacher, vary) -> None:
    teacher = make_teacher("wrn_10_2")
    without, told = (
        Distiller(vary(epochs=6, student={"initial": "reconstructed", "hints": weight, "lr": 0.01}), teacher)
        for weight in (1e-9, 2.0)
    )
    distances = [[run.train_epoch()["student/hints"] for _ in range(6)] for run in (without, told)]
    assert distances[1][-1] < distances[0][-1]


def test_hints_without_channels_to_compare_are_refused(make_teacher, vary) -> None:
    with pytest.raises(ConfigError, match=r"student.hints must be 0 unless student.initial is reconstructed"):
        vary(student={"initial": "auto", "hints": 1.0})
    with pytest.raises(ConfigError, match=r"student.initial must not be 'reconstructed'"):
        Distiller(vary(student={"initial": "reconstructed"}), make_teacher("resnet18"))


@pytest.mark.parametrize("arch", ["wrn_10_1", "resnet18"])
def test_what_is_no_smaller_network_of_the_family_is_refused_in_one_line(make_teacher, vary, arch) -> None:
    teacher = make_teacher(arch)
    with pytest.raises(ConfigError, match=r"student.initial must be 'random'") as refused:
        Distiller(vary(student={"initial": "selected", "arch": "wrn_10_2"}), teacher)
    assert "\n" not in str(refused.value)
