"""Recognises the built-in network that weights from elsewhere belong to, by names and shapes alone.

It tells family, depth, width, classes and channels.
"""

import re
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import torch
from torch import Tensor

from cpsc.errors import CheckpointError, ConfigError
from cpsc.foreign.state_dicts import some
from cpsc.models.names import (
    BOTTLENECK_RESNETS,
    CIFAR_RESNETS,
    LENETS,
    MOBILENET_V2,
    POOLED_VGGS,
    PROJECTED_RESNETS,
    RESNETS,
    SHUFFLENETS,
    VGGS,
    check_arch,
    named_variant,
)

KINDS = (
    "CIFAR ResNets, ResNet-18/34/50, VGG with batch norm, wide ResNets, MobileNet-v2 and ShuffleNet-v2, "
    "each with a 3x3 stem (or CRD's 1x1 stem for ShuffleNet-v2), and LeNet-5"
)

State = dict[str, Tensor]
LAYERS_OF_A_CONVOLUTION = 3
"""A convolution of a VGG, its batch norm and its ReLU."""
_LENET_NAMES = {"1": "conv3.", "2": "fc1.", "3": "fc2."}
MOST_OF_LENET = 20
"""Largest number of weights in a file that `LENET` is tried on: in large networks every block has layers of that name."""
_SHUFFLE_ENDS = {"conv1.": "conv1.0.", "bn1.": "conv1.1.", "conv2.": "conv5.0.", "bn2.": "conv5.1.", "linear.": "fc."}
_SHUFFLE_SPLIT = {"1": ("branch2", 0), "2": ("branch2", 3), "3": ("branch2", 5)}
_SHUFFLE_DOWN = {"1": ("branch1", 0), "2": ("branch1", 2), "3": ("branch2", 0), "4": ("branch2", 3), "5": ("branch2", 5)}
"""Places in a block of the convolutions that kuangliu and CRD number; each is followed by its batch norm."""
_SHUFFLE_LAYER = re.compile(r"layer([123])\.([0-9]+)\.(conv|bn)([1-5])\.")
_FLAT = re.compile(r"features\.([0-9]+)\.weight")


class Recognised(NamedTuple):
    """What the weights tell: everything about a teacher except its input space. `state`: with the names of the network `arch`."""

    arch: str
    num_classes: int
    channels: int
    state: State


class _Family(NamedTuple):
    """How weights of a family are recognised. `read` returns them with our names, and the name of the network."""

    anchor: str
    """A weight that no other family has. It locates the network under whatever name a script has given it."""
    read: Callable[[State], tuple[State, str]]
    stem: str
    classifiers: tuple[str, ...]
    """Names of the matrix with a row per class; networks of the family have different ones."""
    stem_sides: tuple[int, ...] = (3,)


def recognise(state: State, variant: str | None) -> Recognised:
    """The built-in network with the names and shapes of `state`; whether all of them fit is checked afterwards.

    `variant` comes from the caller, because neither names nor shapes tell it. CheckpointError if the network is unknown.
    """
    family = next((family for family in _families(state) if family.anchor in state), None)
    if family is None:
        raise CheckpointError(f"not a known network ({KINDS}), name your own with factory: found {some(state)}")
    state, arch = family.read(state)
    _, channels, height, width = _shape(state, family.stem, 4)
    if height != width or height not in family.stem_sides:
        raise CheckpointError(
            f"its stem {family.stem} is {height}x{width}, made for large images: known are {KINDS}; else name a factory"
        )
    classifier = next((name for name in family.classifiers if name in state), family.classifiers[0])
    return Recognised(_name_variant(arch, variant), _shape(state, classifier, 2)[0], channels, state)


def _name_variant(arch: str, variant: str | None) -> str:
    try:
        return arch if variant is None else named_variant(arch, variant)
    except ConfigError as error:
        raise CheckpointError(str(error)) from error


def _read_resnet(state: State) -> tuple[State, str]:
    """With the names of torchvision, CRD and chenyaofo's zoo, or of kuangliu and akamaster, which are also ours."""
    state = {re.sub(r"^fc\.", "linear.", name.replace(".downsample.", ".shortcut.")): tensor for name, tensor in state.items()}
    blocks = tuple(_count(state, f"layer{stage}.{{}}.conv1.weight") for stage in (1, 2, 3, 4))
    if "layer1.0.conv3.weight" in state:
        return state, _look_up(blocks, BOTTLENECK_RESNETS, "a ResNet whose stages have {} bottleneck blocks")
    if blocks[3]:
        return state, _look_up(blocks, RESNETS, "a ResNet whose stages have {} blocks")
    if len(set(blocks[:3])) > 1:
        raise CheckpointError(f"a ResNet whose stages have {blocks[:3]} blocks: known are {KINDS}; else name a factory")
    widths = tuple(_shape(state, name, 4)[0] for name in ("conv1.weight", *(f"layer{i}.0.conv1.weight" for i in (1, 2, 3))))
    is_projected = any(".shortcut." in name for name in state)
    known = PROJECTED_RESNETS if is_projected else CIFAR_RESNETS
    return state, _look_up((6 * blocks[0] + 2, widths), known, "a ResNet of three stages, whose depth and widths are {}")


def _read_vgg(state: State) -> tuple[State, str]:
    widths = tuple(
        tuple(
            tensor.shape[0]
            for name, tensor in state.items()
            if re.fullmatch(rf"block{group}\.[0-9]+\.weight", name) and tensor.ndim == 4
        )
        for group in range(5)
    )
    return state, _look_up(widths, VGGS, "a VGG whose groups have widths {}")


def _read_flat_vgg(state: State) -> tuple[State, str]:
    """With the names of torchvision and the zoos: all layers in one sequence, in which the pools also take a number."""
    indices = [int(found[1]) for name, tensor in state.items() if (found := _FLAT.fullmatch(name)) and tensor.ndim == 4]
    groups: list[list[int]] = []
    for index in sorted(indices):
        if groups and index == groups[-1][-1] + LAYERS_OF_A_CONVOLUTION:
            groups[-1].append(index)
        else:
            groups.append([index])
    names = {
        f"features.{index + offset}": f"block{group}.{LAYERS_OF_A_CONVOLUTION * place + offset}"
        for group, members in enumerate(groups)
        for place, index in enumerate(members)
        for offset in (0, 1)
    }
    widths = tuple(tuple(state[f"features.{index}.weight"].shape[0] for index in members) for members in groups)
    hidden = _shape(state, "classifier.0.weight", 2)[0] if "classifier.6.weight" in state else None
    renamed = {_renamed(name, names): tensor for name, tensor in state.items()}
    return renamed, _look_up((widths, hidden), POOLED_VGGS, "a VGG whose groups and hidden layers have widths {}")


def _renamed(name: str, layers: Mapping[str, str]) -> str:
    layer, dot, parameter = name.rpartition(".")
    return f"{layers.get(layer, layer)}{dot}{parameter}"


def _read_lenet(state: State) -> tuple[State, str]:
    """With a third convolution, which sees a single window, or a linear layer in its place, as in kuangliu's code."""
    if "fc3.weight" in state:
        matrix = _shape(state, "fc1.weight", 2)
        side = _shape(state, "conv2.weight", 4)[2]
        if matrix[1] != state["conv2.weight"].shape[0] * side**2:
            raise CheckpointError(f"a LeNet whose fc1.weight {tuple(matrix)} does not fit maps of {side}x{side}: name a factory")
        window = state["fc1.weight"].view(matrix[0], -1, side, side)
        state = {re.sub(r"^fc([123])\.", lambda layer: _LENET_NAMES[layer[1]], name): value for name, value in state.items()}
        state["conv3.weight"] = window
    widths = tuple(_shape(state, f"conv{index}.weight", 4)[0] for index in (1, 2, 3))
    return state, _look_up((*widths, _shape(state, "fc1.weight", 2)[0]), LENETS, "a LeNet of widths {}")


def _read_shufflenet(state: State) -> tuple[State, str]:
    """With the names of torchvision and chenyaofo."""
    widths = tuple(2 * _shape(state, f"stage{stage}.0.branch1.2.weight", 4)[0] for stage in (2, 3, 4))
    features, stem_side = _shape(state, "conv5.0.weight", 4)[0], _shape(state, "conv1.0.weight", 4)[2]
    what = "a ShuffleNet-v2 whose widths, features and stem's side are {}"
    return state, _look_up((widths, features, stem_side), SHUFFLENETS, what)


def _read_numbered_shufflenet(state: State) -> tuple[State, str]:
    """With the names of kuangliu and CRD, who number the convolutions of a block."""
    return _read_shufflenet({_torchvisions_name(name): tensor for name, tensor in state.items()})


def _torchvisions_name(name: str) -> str:
    if found := _SHUFFLE_LAYER.match(name):
        stage, block, kind, number = found.groups()
        numbered = _SHUFFLE_DOWN if block == "0" else _SHUFFLE_SPLIT
        if number in numbered:
            branch, index = numbered[number]
            return f"stage{int(stage) + 1}.{block}.{branch}.{index + (kind == 'bn')}.{name[found.end() :]}"
    end = next((end for end in _SHUFFLE_ENDS if name.startswith(end)), "")
    return _SHUFFLE_ENDS.get(end, "") + name[len(end) :]


def _read_wide(state: State) -> tuple[State, str]:
    num_blocks = _count(state, "block1.layer.{}.conv1.weight")
    width = _shape(state, "block1.layer.0.conv1.weight", 4)[0]
    if width % 16:
        raise CheckpointError(f"a wide ResNet whose first group has {width} channels, not a multiple of 16: name a factory")
    arch = f"wrn_{6 * num_blocks + 4}_{width // 16}"
    try:
        check_arch(arch)
    except ConfigError as error:
        raise CheckpointError(str(error)) from error
    return state, arch


FAMILIES = (
    _Family("layer1.0.conv5.weight", _read_numbered_shufflenet, "conv1.0.weight", ("fc.weight",), stem_sides=(1, 3)),
    _Family("layer1.0.conv1.weight", _read_resnet, "conv1.weight", ("linear.weight",)),
    _Family("block0.0.weight", _read_vgg, "block0.0.weight", ("classifier.weight",)),
    _Family("features.1.running_var", _read_flat_vgg, "block0.0.weight", ("classifier.6.weight", "classifier.weight")),
    _Family("block1.layer.0.conv1.weight", _read_wide, "conv1.weight", ("fc.weight",)),
    _Family("features.18.0.weight", lambda state: (state, MOBILENET_V2), "features.0.0.weight", ("classifier.1.weight",)),
    _Family("stage2.0.branch1.0.weight", _read_shufflenet, "conv1.0.weight", ("fc.weight",), stem_sides=(1, 3)),
)
LENET = _Family("fc1.weight", _read_lenet, "conv1.weight", ("fc2.weight",), stem_sides=(5,))


def anchors(state: Mapping[str, object]) -> tuple[str, ...]:
    """The anchor weights of all families that may be in `state`; they locate a network under whatever name it has there."""
    return tuple(family.anchor for family in _families(state))


def _families(state: Mapping[str, object]) -> tuple[_Family, ...]:
    return (*FAMILIES, LENET) if len(state) <= MOST_OF_LENET else FAMILIES


def _look_up(found: tuple[Any, ...], known: Mapping[str, tuple[Any, ...]], what: str) -> str:
    if arch := next((name for name, described in known.items() if described == found), None):
        return arch
    raise CheckpointError(f"{what.format(str(found)[:80])}: known are {KINDS}; else name a factory")


def _count(state: Mapping[str, Tensor], pattern: str) -> int:
    """How many of the keys `pattern` with 0, 1, 2, ... exist, up to the first that does not."""
    return next(index for index in range(len(state) + 1) if pattern.format(index) not in state)


def _shape(state: Mapping[str, Tensor], name: str, ndim: int) -> torch.Size:
    if name not in state:
        raise CheckpointError(f"its weights lack {name}: found {some(state)}")
    if state[name].ndim != ndim:
        raise CheckpointError(f"its weight {name} is {tuple(state[name].shape)}, must have {ndim} dimensions")
    return state[name].shape
