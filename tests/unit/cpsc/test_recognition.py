"""Weights of public zoos, by the names that each gives them: the network is told, and computes what it did there."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import NamedTuple

import pytest
import torch
from torch import Tensor, nn

from cpsc.device import place
from cpsc.errors import CheckpointError
from cpsc.metrics import predict
from cpsc.models import build_model
from cpsc.published import PublishedConfig, load_teacher
from cpsc.recognition import KINDS
from cpsc.teacher import Teacher
from tests.unit.cpsc.foreign_files import saved, under

pytestmark = pytest.mark.slow  # networks of every published family
CPU = torch.device("cpu")
CONFIG = PublishedConfig(normalisation="cifar10", image_size=16)
State = dict[str, Tensor]


def trained(arch: str, *, num_classes: int = 10, channels: int = 3, size: int = 16) -> nn.Module:
    """Random weights, and batch norms that have seen images."""
    torch.manual_seed(0)
    network = build_model(arch, num_classes=num_classes, channels=channels)
    network(torch.randn(8, channels, size, size))
    return network.eval()


def check_same(teacher: Teacher, network: nn.Module) -> None:
    torch.manual_seed(3)
    x = torch.randn(4, teacher.channels, teacher.image_size, teacher.image_size)
    expected = predict(place(network, CPU), x)
    assert expected.std() > 0
    assert torch.equal(predict(teacher.build(CPU), x), expected)


def renamed(state: State, *pairs: tuple[str, str]) -> State:
    """With parts of names replaced: all that tells one zoo's file of a ResNet from another's."""
    for old, new in pairs:
        state = {name.replace(old, new): tensor for name, tensor in state.items()}
    return state


def torchvision_names(state: State) -> State:
    return renamed(state, ("shortcut", "downsample"), ("linear.", "fc."))


CONVOLUTIONS = {"vgg11": (1, 1, 2, 2, 2), "vgg13": (2, 2, 2, 2, 2), "vgg16": (2, 2, 3, 3, 3), "vgg19": (2, 2, 4, 4, 4)}


def flat_names(state: State, convolutions: tuple[int, ...]) -> State:
    """All layers of a VGG in a row, pools too, as torchvision, kuangliu and the zoos made after them have it."""
    names, index = {}, 0
    for group, number in enumerate(convolutions):
        for first in range(0, 3 * number, 3):
            names |= {f"block{group}.{first}": f"features.{index}", f"block{group}.{first + 1}": f"features.{index + 1}"}
            index += 3
        index += 1
    layers = {name: name.rpartition(".")[0] for name in state}
    return {f"{names.get(layer, layer)}.{name.rpartition('.')[2]}": state[name] for name, layer in layers.items()}


def flat_zoo(arch: str, wrap: Callable[[State], object] = lambda state: state) -> "Zoo":
    return Zoo(arch, lambda state: wrap(flat_names(state, CONVOLUTIONS[arch.partition("_")[0]])))


NUMBERED_LAYERS = {  # of a block by kuangliu and CRD: convolutions, each with its batch norm; ours is torchvision's
    True: ("branch1.0", "branch1.2", "branch2.0", "branch2.3", "branch2.5"),  # which halves the map
    False: ("branch2.0", "branch2.3", "branch2.5"),
}
NUMBERED_ENDS = {"conv1.0": "conv1", "conv1.1": "bn1", "conv5.0": "conv2", "conv5.1": "bn2", "fc": "linear"}


def numbered_shufflenet(state: State) -> State:
    """All of a block's layers beside each other, in the order in which kuangliu's and CRD's program makes them."""
    names = dict(NUMBERED_ENDS)
    for stage, num_blocks in ((1, 4), (2, 8), (3, 4)):
        for block in range(num_blocks):
            for number, layer in enumerate(NUMBERED_LAYERS[block == 0], start=1):
                branch, index = layer.split(".")
                ours, theirs = f"stage{stage + 1}.{block}.{branch}", f"layer{stage}.{block}"
                names |= {f"{ours}.{index}": f"{theirs}.conv{number}", f"{ours}.{int(index) + 1}": f"{theirs}.bn{number}"}
    layers = [name.rpartition(".") for name in state]
    return {f"{names[layer]}.{part}": state[f"{layer}.{part}"] for layer, _, part in layers}


class Zoo(NamedTuple):
    arch: str
    write: Callable[[State], object]


ZOOS = {
    "CRD, 20 layers": Zoo("resnet20_b", lambda state: {"epoch": 240, "model": torchvision_names(state), "best_acc": 69.1}),
    "CRD, 8x4": Zoo("resnet8x4", lambda state: {"model": torchvision_names(state), "optimizer": {"state": {}, "param_groups": []}}),
    "CRD, 32x4": Zoo("resnet32x4", lambda state: {"model": torchvision_names(state)}),
    "akamaster": Zoo("resnet20", lambda state: {"state_dict": under("module.", state), "best_prec1": 91.7}),
    "akamaster, option B": Zoo("resnet32_b", lambda state: {"state_dict": under("module.", state), "best_prec1": 92.0}),
    "torchvision, 50 layers": Zoo("resnet50", torchvision_names),
    "kuangliu, 50 layers": Zoo("resnet50", lambda state: {"net": under("module.", state), "acc": 95.3, "epoch": 1}),
    "CRD's VGG of 8": Zoo("vgg8", lambda state: {"model": state}),
    "CRD's VGG of 13": Zoo("vgg13", lambda state: {"model": state}),
    "kuangliu's VGG": flat_zoo("vgg19_pooled", lambda state: {"net": under("module.", state), "acc": 93.0}),
    "chenyaofo's VGG of 13": flat_zoo("vgg13_bn"),
    "chenyaofo's VGG of 16": flat_zoo("vgg16_bn"),
    "huyvnphan's VGG": flat_zoo("vgg11_bn_4096"),
    "torchvision's ShuffleNet": Zoo("shufflenet_v2", lambda state: {"state_dict": under("module.", state)}),
    "CRD's ShuffleNet": Zoo("shufflenet_v2_1x1", lambda state: {"epoch": 240, "model": numbered_shufflenet(state)}),
    "kuangliu's ShuffleNet": Zoo("shufflenet_v2", lambda state: {"net": under("module.", numbered_shufflenet(state))}),
    "kuangliu's ShuffleNet of half the width": Zoo("shufflenet_v2_x0_5", numbered_shufflenet),
    "chenyaofo's ShuffleNet of twice the width": Zoo("shufflenet_v2_x2_0", lambda state: state),
    "chenyaofo": Zoo("resnet56_b", torchvision_names),
}


@pytest.mark.parametrize("zoo", ZOOS)
def test_a_zoos_file_is_told_by_its_names_and_computes_what_it_did_there(zoo: str, tmp_path: Path) -> None:
    arch, write = ZOOS[zoo]
    network = trained(arch)
    teacher = load_teacher(saved(write(network.state_dict()), tmp_path / "teacher.pth"), CONFIG)
    assert (teacher.arch, teacher.num_classes, teacher.channels) == (arch, 10, 3)
    check_same(teacher, network)


def test_where_option_a_has_its_zeros_is_its_users_word(tmp_path: Path) -> None:
    network = trained("resnet20-zeros_behind")
    path = saved(network.state_dict(), tmp_path / "teacher.pth")
    teacher = load_teacher(path, replace(CONFIG, variant="zeros_behind"))
    assert teacher.arch == "resnet20-zeros_behind"
    check_same(teacher, network)


@pytest.mark.parametrize(
    ("names", "stem", "message"),
    [
        (("layer1.0", "layer2.0", "layer3.0", "layer3.1"), 16, "a ResNet whose stages have (1, 1, 2) blocks: known are"),
        (("layer1.0", "layer2.0", "layer3.0"), 8, "a ResNet of three stages, whose depth and widths are (8, (8, 16, 16, 16))"),
        (("layer1.0",), 16, "a ResNet whose stages have (1, 0, 0) blocks"),
    ],
)
def test_a_resnet_of_three_stages_that_is_not_known_is_refused(
    names: tuple[str, ...], stem: int, message: str, tmp_path: Path
) -> None:
    state = {f"{name}.conv1.weight": torch.zeros(16, 16, 3, 3) for name in names}
    state |= {"conv1.weight": torch.zeros(stem, 3, 3, 3), "fc.weight": torch.zeros(10, 16)}
    with pytest.raises(CheckpointError) as caught:
        load_teacher(saved(state, tmp_path / "teacher.pth"), CONFIG)
    assert message in str(caught.value)
    assert "; else name a factory" in str(caught.value)
    assert KINDS in str(caught.value)


def test_a_vgg_whose_pools_lie_elsewhere_is_refused_by_its_groups(tmp_path: Path) -> None:
    state = flat_names(trained("vgg11_pooled").state_dict(), (1, 1, 2, 4))  # one pool less, so all behind it stand elsewhere
    with pytest.raises(
        CheckpointError, match=r"a VGG whose groups and hidden layers have widths \(\(\(64,\), .*; else name a factory"
    ):
        load_teacher(saved(state, tmp_path / "teacher.pth"), CONFIG)


def test_a_shufflenet_of_unknown_widths_is_refused_by_them(tmp_path: Path) -> None:
    state = numbered_shufflenet(trained("shufflenet_v2_x0_5").state_dict()) | {"layer2.0.conv2.weight": torch.zeros(40, 48, 1, 1)}
    refusal = r"a ShuffleNet-v2 whose widths, features and stem's side are \(\(48, 80, 192\), 1024, 3\): .*; else name a factory"
    with pytest.raises(CheckpointError, match=refusal):
        load_teacher(saved(state, tmp_path / "teacher.pth"), CONFIG)


def kuangliu_lenet(state: State) -> State:
    """With a linear layer where ours has a convolution that sees all of its map."""
    names = {"conv3": "fc1", "fc1": "fc2", "fc2": "fc3"}
    renamed = {f"{names.get(layer, layer)}.{part}": state[f"{layer}.{part}"] for layer, part in (name.split(".") for name in state)}
    return renamed | {"fc1.weight": state["conv3.weight"].flatten(1)}


@pytest.mark.parametrize("size", [28, 32])
@pytest.mark.parametrize("write", [lambda state: state, kuangliu_lenet, lambda state: {"net": under("module.", state)}])
def test_a_lenet_is_told_in_a_file_of_few_weights(write: Callable[[State], object], size: int, tmp_path: Path) -> None:
    network = trained("lenet5", channels=1, size=size)
    path = saved(write(network.state_dict()), tmp_path / "lenet.pth")
    teacher = load_teacher(path, PublishedConfig(normalisation="half", image_size=size))
    assert (teacher.arch, teacher.num_classes, teacher.channels) == ("lenet5", 10, 1)
    check_same(teacher, network)


def test_a_lenet_for_other_images_is_refused(tmp_path: Path) -> None:
    config = PublishedConfig(normalisation="half", image_size=16)
    state = trained("lenet5_half", channels=1, size=28).state_dict()
    with pytest.raises(CheckpointError, match="arch lenet5_half: takes images of 28 or 32 pixels per side, but these have 16"):
        load_teacher(saved(state, tmp_path / "lenet.pth"), config)
    unpadded = kuangliu_lenet(state) | {"fc1.weight": torch.zeros(60, 8 * 16)}
    with pytest.raises(CheckpointError, match=r"a LeNet whose fc1.weight \(60, 128\) does not fit maps of 5x5: name a factory"):
        load_teacher(saved(unpadded, tmp_path / "lenet.pth"), config)
