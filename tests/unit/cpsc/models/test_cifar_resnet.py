"""ResNets of three stages: what their two kinds of shortcuts compute."""

import pytest
import torch
from torch import Tensor, nn

from cpsc.models import build_model, shapes_alone


def shortcut_of(arch: str, stage: str = "layer2") -> nn.Module:
    torch.manual_seed(0)
    return build_model(arch, num_classes=4, channels=1).eval().get_submodule(f"{stage}.0.shortcut")


@pytest.fixture
def maps() -> Tensor:
    return torch.randn(2, 16, 8, 8, generator=torch.Generator().manual_seed(0))


def test_option_a_takes_every_second_pixel_and_adds_zeros_on_both_sides_without_a_weight(maps: Tensor) -> None:
    shortcut = shortcut_of("resnet20")
    assert not shortcut.state_dict()
    out = shortcut(maps)
    assert out.shape == (2, 32, 4, 4)
    assert torch.equal(out[:, 8:24], maps[:, :, ::2, ::2])
    assert not out[:, :8].any()
    assert not out[:, 24:].any()


def test_its_variant_has_all_zeros_behind(maps: Tensor) -> None:
    out = shortcut_of("resnet20-zeros_behind")(maps)
    assert torch.equal(out[:, :16], maps[:, :, ::2, ::2])
    assert not out[:, 16:].any()


def test_option_b_projects(maps: Tensor) -> None:
    shortcut = shortcut_of("resnet20_b")
    conv, norm = shortcut
    with torch.no_grad():
        expected = norm(nn.functional.conv2d(maps[:, :, ::2, ::2], conv.weight))
        torch.testing.assert_close(shortcut(maps), expected)


@pytest.mark.parametrize(
    ("arch", "stage", "has_one"),
    [("resnet20", "layer1", False), ("resnet20_b", "layer1", False), ("resnet8x4", "layer1", True), ("resnet8x4", "layer3", True)],
)
def test_a_shortcut_stands_where_the_shape_changes_and_nowhere_else(arch: str, stage: str, has_one: bool) -> None:
    assert (len(list(shortcut_of(arch, stage).children())) > 0) == has_one


def test_a_block_rectifies_after_the_sum(maps: Tensor) -> None:
    torch.manual_seed(0)
    block = build_model("resnet20", num_classes=4, channels=1).eval().get_submodule("layer2.0")
    with torch.no_grad():
        out = block.bn2(block.conv2(block.bn1(block.conv1(maps)).relu()))
        torch.testing.assert_close(block(maps), (out + block.shortcut(maps)).relu())


@pytest.mark.parametrize(("arch", "sides"), [("resnet20", [32, 16, 8]), ("resnet32x4-stem_stride_2", [16, 8, 4])])
def test_two_stages_halve_the_maps(arch: str, sides: list[int]) -> None:
    with shapes_alone():
        network = build_model(arch, num_classes=4, channels=3)
    seen: list[int] = []
    for stage in network.stages:
        stage.register_forward_hook(lambda _stage, _inputs, output: seen.append(output.shape[-1]))
    network(torch.empty(2, 3, 32, 32, device="meta"))
    assert seen == sides
