"""Networks by name, and variants of them that others train with the same keys and shapes."""

import difflib
import re
from collections.abc import Mapping
from typing import Any, NamedTuple

from torch import nn

from cpsc.errors import ConfigError
from cpsc.models.lenet import LeNet
from cpsc.models.mobilenet import MobileNetV2
from cpsc.models.resnet import BottleneckResNet, CifarResNet, PaddedCifarResNet, ResNet
from cpsc.models.shufflenet import ShuffleNetV2
from cpsc.models.vgg import PooledVgg, Vgg
from cpsc.models.vit import VisionTransformer
from cpsc.models.wide_resnet import GroupNormWideResNet, WideResNet

RESNETS = {"resnet18": (2, 2, 2, 2), "resnet34": (3, 4, 6, 3)}
BOTTLENECK_RESNETS = {"resnet50": (3, 4, 6, 3)}
CIFAR_RESNET_WIDTHS = (16, 16, 32, 64)
CIFAR_RESNETS = {f"resnet{depth}": (depth, CIFAR_RESNET_WIDTHS) for depth in (8, 14, 20, 32, 44, 56, 110)}
"""With shortcuts without weights (option A), as in the paper. Each has a counterpart ``resnet<depth>_b`` with projections."""
CRD_WIDTHS = (32, 64, 128, 256)
PROJECTED_RESNETS = {f"{name}_b": described for name, described in CIFAR_RESNETS.items()} | {
    "resnet8x4": (8, CRD_WIDTHS),
    "resnet32x4": (32, CRD_WIDTHS),
}
"""Option B, and the two networks that CRD (Tian et al. 2020, arXiv:1910.10699) made four times as wide; these exist only with B."""
VGGS = {
    "vgg8": ((64,), (128,), (256,), (512,), (512,)),
    "vgg11": ((64,), (128,), (256, 256), (512, 512), (512, 512)),
    "vgg13": ((64, 64), (128, 128), (256, 256), (512, 512), (512, 512)),
    "vgg16": ((64, 64), (128, 128), (256, 256, 256), (512, 512, 512), (512, 512, 512)),
    "vgg19": ((64, 64), (128, 128), (256, 256, 256, 256), (512, 512, 512, 512), (512, 512, 512, 512)),
}
"""All have batch norm and three pools, as in CRD. VGG-8 is CRD's; the others are A, B, D and E of the paper."""
POOLED_VGGS = {
    f"{name}_{form}": (groups, hidden)
    for name, groups in VGGS.items()
    if name != "vgg8"
    for form, hidden in (("pooled", None), ("bn", 512), ("bn_4096", 4096))
}
"""Five pools, as in the CIFAR zoos: with one linear layer (kuangliu's), or with three as in torchvision's ``vgg16_bn``, 512 wide
(chenyaofo's) or 4096 wide (huyvnphan's)."""
LENETS = {"lenet5": (6, 16, 120, 84), "lenet5_half": (3, 8, 60, 42)}
"""The second is DAFL's student."""
SHUFFLENETS = {
    "shufflenet_v2": ((116, 232, 464), 1024, 3),
    "shufflenet_v2_1x1": ((116, 232, 464), 1024, 1),
    "shufflenet_v2_x0_5": ((48, 96, 192), 1024, 3),
    "shufflenet_v2_x1_5": ((176, 352, 704), 1024, 3),
    "shufflenet_v2_x2_0": ((244, 488, 976), 2048, 3),
}
"""The widths of torchvision and of the CIFAR zoos based on it; the second is CRD's, whose stem is a 1x1 convolution."""
MOBILENET_V2, VIT_TINY = "mobilenet_v2", "vit_tiny"
NETWORKS: Mapping[str, tuple[type[nn.Module], tuple[Any, ...]]] = {
    **{name: (ResNet, (blocks,)) for name, blocks in RESNETS.items()},
    **{name: (BottleneckResNet, (blocks,)) for name, blocks in BOTTLENECK_RESNETS.items()},
    **{name: (PaddedCifarResNet, described) for name, described in CIFAR_RESNETS.items()},
    **{name: (CifarResNet, described) for name, described in PROJECTED_RESNETS.items()},
    **{name: (Vgg, (groups,)) for name, groups in VGGS.items()},
    **{name: (PooledVgg, described) for name, described in POOLED_VGGS.items()},
    MOBILENET_V2: (MobileNetV2, ()),
    **{name: (ShuffleNetV2, described) for name, described in SHUFFLENETS.items()},
    VIT_TINY: (VisionTransformer, ()),
    **{name: (LeNet, (widths,)) for name, widths in LENETS.items()},
}
"""Class and arguments of each named network; the names of wide ResNets follow a pattern."""
STANDARD = "standard"
_OF_STEMS: Mapping[str, Mapping[str, Any]] = {
    "max_pool": {"max_pool": True},
    "stem_stride_2": {"stem_stride": 2},
    "stem_stride_2_max_pool": {"stem_stride": 2, "max_pool": True},
}
_OF_RESNETS: Mapping[str, Mapping[str, Any]] = {**_OF_STEMS, "last_stride_1": {"strides": (1, 2, 2, 1)}}
VARIANTS: Mapping[type[nn.Module], Mapping[str, Mapping[str, Any]]] = {
    ResNet: _OF_RESNETS,
    BottleneckResNet: {**_OF_RESNETS, "stride_in_1x1": {"stride_in_1x1": True}},
    CifarResNet: {"stem_stride_2": {"stem_stride": 2}},
    PaddedCifarResNet: {
        "zeros_behind": {"zeros": "behind"},
        "stem_stride_2": {"stem_stride": 2},
        "stem_stride_2_zeros_behind": {"stem_stride": 2, "zeros": "behind"},
    },
    WideResNet: {"stem_stride_2": {"stem_stride": 2}},
    Vgg: {"four_pools": {"num_pools": 4}},
    PooledVgg: {},
    MobileNetV2: {
        "stage_2_stride_1": {"strides": (1, 1, 2, 2, 1, 2, 1)},
        "stages_2_3_stride_1": {"strides": (1, 1, 1, 2, 1, 2, 1)},
        "stem_stride_2": {"stem_stride": 2},
        "stem_stride_2_stage_2_stride_1": {"stem_stride": 2, "strides": (1, 1, 2, 2, 1, 2, 1)},
    },
    ShuffleNetV2: _OF_STEMS,
    LeNet: {"smooth": {"smooth": True}},
    GroupNormWideResNet: {},
    VisionTransformer: {},
}
"""Networks that others train with the same keys and shapes as ours, by family and name; ours is the variant `STANDARD`.

They are ResNets that keep torchvision's max-pool after a 3x3 stem, MobileNet-v2 with stride 1 in the second stage (both from
CIFAR-10 zoos) or with torchvision's own strides, bottlenecks with the stride in their first convolution, CIFAR ResNets whose
shortcuts have the zeros elsewhere, and LeNet-5 with tanh and average pools. The others are adaptations to other image sizes.
"""
_WRN = re.compile(r"wrn_([0-9]{1,4})_([0-9]{1,4})(_gn)?")
MAX_DEPTH, MAX_WIDTH = 100, 32
"""The deepest published network has depth 40, the widest width 20; a typing error could otherwise exhaust the machine's memory."""


class Recipe(NamedTuple):
    """How a built-in network is constructed, except for classes and channels."""

    kind: type[nn.Module]
    arguments: tuple[Any, ...]
    options: Mapping[str, Any]
    """What is different in a variant; empty for the standard network."""


def build_model(arch: str, *, num_classes: int, channels: int) -> nn.Module:
    """The classifier called `arch` (``wrn_16_2``, ``resnet18``, ``resnet18-max_pool``, ...) for images of `channels` channels.

    An import path is refused, because `arch` may come from a file. For a path named by a person there is `build_imported`.
    """
    recipe = recipe_of(arch)
    return recipe.kind(*recipe.arguments, **recipe.options, num_classes=num_classes, channels=channels)


def check_arch(arch: str) -> None:
    """Raise ConfigError unless `arch` names a network this package builds."""
    recipe_of(arch)


def check_image_size(arch: str, image_size: int) -> None:
    """Raise ConfigError if the network `arch` does not take images of `image_size` pixels per side. Most take any size."""
    sizes = getattr(recipe_of(arch).kind, "IMAGE_SIZES", (image_size,))
    if image_size not in sizes:
        taken = " or ".join(map(str, sizes))
        raise ConfigError(f"arch {arch}: takes images of {taken} pixels per side, but these have {image_size}: use another network")


def recipe_of(arch: str) -> Recipe:
    """The recipe of `arch`, a name with or without ``-<variant>``; ConfigError if there is no such network."""
    base, _, variant = arch.partition("-")
    kind, arguments = _standard(base)
    if not variant:
        return Recipe(kind, arguments, {})
    if variant not in VARIANTS[kind]:
        known = ", ".join(VARIANTS[kind])
        raise ConfigError(f"arch {arch[:80]!r}: {base} has {f'the variants {known}' if known else 'no variants'}")
    return Recipe(kind, arguments, VARIANTS[kind][variant])


def variants_of(arch: str) -> tuple[str, ...]:
    """All networks with the keys and shapes of the standard network `arch`: itself, then its variants."""
    return (arch, *(f"{arch}-{variant}" for variant in VARIANTS[recipe_of(arch).kind]))


def named_variant(arch: str, variant: str) -> str:
    """The arch of the `variant` of the standard network `arch`. ConfigError if it has no variant of that name."""
    known = [STANDARD, *VARIANTS[recipe_of(arch).kind]]
    if variant not in known:
        raise ConfigError(f"variant must be one of {', '.join(known)} for a {arch}, got {variant[:40]!r}")
    return arch if variant == STANDARD else f"{arch}-{variant}"


def _standard(arch: str) -> tuple[type[nn.Module], tuple[Any, ...]]:
    if arch in NETWORKS:
        return NETWORKS[arch]
    if match := _WRN.fullmatch(arch):
        depth, width = int(match[1]), int(match[2])
        if not 10 <= depth <= MAX_DEPTH or (depth - 4) % 6 or not 1 <= width <= MAX_WIDTH:
            rule = f"depth must be 6n + 4 in 10..{MAX_DEPTH} and width in 1..{MAX_WIDTH}"
            raise ConfigError(f"arch {arch!r}: {rule}, e.g. wrn_16_2")
        return GroupNormWideResNet if match[3] else WideResNet, (depth, width)
    close = difflib.get_close_matches(arch[:40], NETWORKS, n=3)
    known = f"wrn_<depth>_<width>, the same with _gn appended, or one of {', '.join(NETWORKS)}"
    hint = f"did you mean {' or '.join(close)}?" if close else f"use {known}"
    raise ConfigError(f"arch {arch[:40]!r}: unknown network, {hint}")
