"""A student that begins with some of its teacher's own weights."""

from collections.abc import Callable

import pytest
import torch

from cpsc.config import DistillConfig
from cpsc.distiller import Distiller
from cpsc.errors import ConfigError
from cpsc.models import build_model, selected_weights


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


@pytest.mark.parametrize(("arch", "selected"), [("wrn_10_2", True), ("resnet18", False)])
def test_it_begins_so_by_itself_where_it_can(make_teacher, vary, arch: str, selected: bool) -> None:
    teacher = make_teacher(arch)
    begun = Distiller(vary(student={"initial": "auto"}), teacher).student.state_dict()
    drawn = Distiller(vary(), teacher).student.state_dict()
    assert torch.equal(begun["conv1.weight"], teacher.state["conv1.weight"] if selected else drawn["conv1.weight"])


@pytest.mark.parametrize("arch", ["wrn_10_1", "resnet18"])
def test_what_is_no_smaller_network_of_the_family_is_refused_in_one_line(make_teacher, vary, arch) -> None:
    teacher = make_teacher(arch)
    with pytest.raises(ConfigError, match=r"student.initial must be 'random'") as refused:
        Distiller(vary(student={"initial": "selected", "arch": "wrn_10_2"}), teacher)
    assert "\n" not in str(refused.value)
