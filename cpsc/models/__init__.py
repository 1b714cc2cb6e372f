"""Classifiers by name. Every model returns ``Output(features, logits)`` and has ``feature_dim`` and ``stages``."""

import re
from collections.abc import Callable

from torch import nn

from cpsc.errors import ConfigError
from cpsc.models.imported import build_imported, check_import_path, is_import_path
from cpsc.models.mobilenet import MobileNetV2
from cpsc.models.output import Output
from cpsc.models.resnet import ResNet
from cpsc.models.vgg import Vgg
from cpsc.models.wide_resnet import WideResNet

__all__ = [
    "MobileNetV2",
    "Output",
    "ResNet",
    "Vgg",
    "WideResNet",
    "build_imported",
    "build_model",
    "check_arch",
    "check_import_path",
    "is_import_path",
]

RESNETS = {"resnet18": (2, 2, 2, 2), "resnet34": (3, 4, 6, 3)}
VGGS = {"vgg11": ((64,), (128,), (256, 256), (512, 512), (512, 512))}
MOBILENET_V2 = "mobilenet_v2"
_WRN = re.compile(r"wrn_([0-9]{1,4})_([0-9]{1,4})")
MAX_DEPTH, MAX_WIDTH = 100, 32
"""The largest published is 40 deep, another 20 wide; a typing mistake beyond would take the machine's memory."""


def build_model(arch: str, *, num_classes: int, channels: int) -> nn.Module:
    """The classifier called `arch` (``wrn_16_2``, ``resnet18``, ...) for images of `channels` channels.

    An import path is refused: what calls this may have `arch` from a file. `build_imported` is for a person's own word.
    """
    return _builder(arch)(num_classes, channels)


def check_arch(arch: str) -> None:
    """Raise ConfigError unless `arch` names a network this package builds."""
    _builder(arch)


def _builder(arch: str) -> Callable[[int, int], nn.Module]:
    if arch in RESNETS:
        return lambda classes, channels: ResNet(RESNETS[arch], num_classes=classes, channels=channels)
    if arch in VGGS:
        return lambda classes, channels: Vgg(VGGS[arch], num_classes=classes, channels=channels)
    if arch == MOBILENET_V2:
        return lambda classes, channels: MobileNetV2(num_classes=classes, channels=channels)
    if match := _WRN.fullmatch(arch):
        depth, width = int(match[1]), int(match[2])
        if not 10 <= depth <= MAX_DEPTH or (depth - 4) % 6 or not 1 <= width <= MAX_WIDTH:
            rule = f"depth must be 6n + 4 in 10..{MAX_DEPTH} and width in 1..{MAX_WIDTH}"
            raise ConfigError(f"arch {arch!r}: {rule}, e.g. wrn_16_2")
        return lambda classes, channels: WideResNet(depth, width, num_classes=classes, channels=channels)
    known = ", ".join([*RESNETS, *VGGS, MOBILENET_V2])
    raise ConfigError(f"arch {arch[:40]!r}: unknown network, use wrn_<depth>_<width> or one of {known}")
