"""State-dict keys of published checkpoints, spelled out from the grammar of their names and not from our networks."""

import re
from collections.abc import Iterator

BLOCKS = {"resnet18": (2, 2, 2, 2), "resnet34": (3, 4, 6, 3), "resnet50": (3, 4, 6, 3)}

CONVOLUTIONS = {
    "vgg8": (1, 1, 1, 1, 1),
    "vgg11": (1, 1, 2, 2, 2),
    "vgg13": (2, 2, 2, 2, 2),
    "vgg16": (2, 2, 3, 3, 3),
    "vgg19": (2, 2, 4, 4, 4),
}


def published_keys(arch: str) -> list[str]:
    """The keys of the file that holds a trained `arch`."""
    family, *numbers = arch.split("_")
    if family == "wrn":
        return list(_wide(depth=int(numbers[0]), width=int(numbers[1])))
    if small := re.fullmatch(r"resnet(8|20|32|56|110)(_b|x4)?", arch):
        return list(_cifar_resnet(depth=int(small[1]), is_projected=bool(small[2]), is_wider=small[2] == "x4"))
    if blocks := BLOCKS.get(arch):
        return list(_resnet(blocks, is_bottleneck=arch == "resnet50"))
    if family in CONVOLUTIONS:
        return list(_vgg(*CONVOLUTIONS[family], num_layers=3 if "bn" in numbers else 1))
    return list({"mobilenet": _mobilenet, "shufflenet": _shufflenet}[family]())


def _norm(name: str) -> list[str]:
    return [f"{name}.{part}" for part in ("weight", "bias", "running_mean", "running_var", "num_batches_tracked")]


def _affine(name: str) -> list[str]:
    return [f"{name}.weight", f"{name}.bias"]


def _resnet(blocks: tuple[int, ...], *, is_bottleneck: bool) -> Iterator[str]:
    yield from ("conv1.weight", *_norm("bn1"))
    for stage, num_blocks in enumerate(blocks, start=1):
        for block in range(num_blocks):
            for index in range(1, 4 if is_bottleneck else 3):
                name = f"layer{stage}.{block}"
                yield from (f"{name}.conv{index}.weight", *_norm(f"{name}.bn{index}"))
        if stage > 1 or is_bottleneck:
            yield from (f"layer{stage}.0.shortcut.0.weight", *_norm(f"layer{stage}.0.shortcut.1"))
    yield from _affine("linear")


def _cifar_resnet(*, depth: int, is_projected: bool, is_wider: bool) -> Iterator[str]:
    """akamaster's. Where the first stage is wider than the stem, as CRD's are, it has a shortcut of its own, too."""
    yield from ("conv1.weight", *_norm("bn1"))
    for stage in (1, 2, 3):
        for block in range((depth - 2) // 6):
            name = f"layer{stage}.{block}"
            yield from (f"{name}.conv1.weight", *_norm(f"{name}.bn1"), f"{name}.conv2.weight", *_norm(f"{name}.bn2"))
        if is_projected and (stage > 1 or is_wider):
            yield from (f"layer{stage}.0.shortcut.0.weight", *_norm(f"layer{stage}.0.shortcut.1"))
    yield from _affine("linear")


def _vgg(*convolutions: int, num_layers: int) -> Iterator[str]:
    """CRD's; torchvision has three linear layers, with a ReLU and a dropout between them."""
    for group, num_convolutions in enumerate(convolutions):
        for first in range(0, 3 * num_convolutions, 3):
            yield from (*_affine(f"block{group}.{first}"), *_norm(f"block{group}.{first + 1}"))
    for layer in ["classifier"] if num_layers == 1 else ["classifier.0", "classifier.3", "classifier.6"]:
        yield from _affine(layer)


def _wide(*, depth: int, width: int) -> Iterator[str]:
    yield "conv1.weight"
    for group in (1, 2, 3):
        for block in range((depth - 4) // 6):
            name = f"block{group}.layer.{block}"
            yield from (*_norm(f"{name}.bn1"), f"{name}.conv1.weight", *_norm(f"{name}.bn2"), f"{name}.conv2.weight")
        if group > 1 or width > 1:
            yield f"block{group}.layer.0.convShortcut.weight"
    yield from (*_norm("bn1"), *_affine("fc"))


def _mobilenet() -> Iterator[str]:
    yield from ("features.0.0.weight", *_norm("features.0.1"))
    for index in range(1, 18):
        name = f"features.{index}.conv"
        inner = [f"{name}.0"] if index == 1 else [f"{name}.0", f"{name}.1"]  # the first block expands by 1: not at all
        for layer in inner:
            yield from (f"{layer}.0.weight", *_norm(f"{layer}.1"))
        yield from (f"{name}.{len(inner)}.weight", *_norm(f"{name}.{len(inner) + 1}"))
    yield from ("features.18.0.weight", *_norm("features.18.1"), *_affine("classifier.1"))


def _shufflenet() -> Iterator[str]:
    yield from ("conv1.0.weight", *_norm("conv1.1"))
    for stage, num_blocks in ((2, 4), (3, 8), (4, 4)):
        for block in range(num_blocks):
            branches = ["branch1.0", "branch1.2"] if block == 0 else []
            for layer in [*branches, "branch2.0", "branch2.3", "branch2.5"]:
                name, _, index = f"stage{stage}.{block}.{layer}".rpartition(".")
                yield from (f"{name}.{index}.weight", *_norm(f"{name}.{int(index) + 1}"))
    yield from ("conv5.0.weight", *_norm("conv5.1"), *_affine("fc"))
