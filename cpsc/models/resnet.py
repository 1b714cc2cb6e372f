"""ResNets with a 3x3 stem (He et al. 2016, arXiv:1512.03385), with the published teachers' state-dict keys.

There are those with four stages, as for ImageNet, and those with three, which the paper uses for CIFAR-10 (sec. 4.2).
"""

from collections.abc import Callable, Mapping
from functools import partial
from typing import Any, Literal

from torch import Tensor, nn
from torch.nn import functional as F

from cpsc.models.output import Output

WIDTHS = (64, 128, 256, 512)
BOTTLENECK = 4
"""How many times narrower a bottleneck is than the input and output of its block."""
Block = Callable[[int, int, int], nn.Module]
"""Makes a block, or a part of one, from (input channels, output channels, stride)."""
Widths = tuple[int, int, int, int]


class ZeroPadded(nn.Module):
    """Shortcut of option A, without weights: every `stride`-th pixel, and `added` channels of zeros.

    The paper does not say where the zeros are. `before` is how many of them come before the old channels: half, or none.
    """

    def __init__(self, added: int, *, stride: int, before: int) -> None:
        super().__init__()
        self.stride = stride
        self.before, self.behind = before, added - before

    def forward(self, x: Tensor) -> Tensor:
        return F.pad(x[:, :, :: self.stride, :: self.stride], (0, 0, 0, 0, self.before, self.behind))


def _projected(in_channels: int, channels: int, stride: int) -> nn.Module:
    """Shortcut of option B: a 1x1 projection."""
    return nn.Sequential(nn.Conv2d(in_channels, channels, 1, stride=stride, bias=False), nn.BatchNorm2d(channels))


def _zeros_around(in_channels: int, channels: int, stride: int) -> nn.Module:
    return ZeroPadded(channels - in_channels, stride=stride, before=(channels - in_channels) // 2)


def _zeros_behind(in_channels: int, channels: int, stride: int) -> nn.Module:
    return ZeroPadded(channels - in_channels, stride=stride, before=0)


SHORTCUTS: Mapping[str, Block] = {
    "projected": _projected,
    "zeros_around": _zeros_around,
    "zeros_behind": _zeros_behind,
}
"""Shortcuts for blocks that change the shape."""


class BasicBlock(nn.Module):
    """Two 3x3 convolutions and a shortcut; if the shape changes, `shortcut` makes it."""

    def __init__(self, in_channels: int, channels: int, stride: int, *, shortcut: Block = _projected) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(in_channels, channels, 3, stride=stride, padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(channels)
        self.conv2 = nn.Conv2d(channels, channels, 3, padding=1, bias=False)
        self.bn2 = nn.BatchNorm2d(channels)
        self.shortcut = _shortcut(in_channels, channels, stride, shortcut)

    def forward(self, x: Tensor) -> Tensor:
        out = F.relu(self.bn1(self.conv1(x)), inplace=True)
        return F.relu(self.bn2(self.conv2(out)) + self.shortcut(x), inplace=True)


class Bottleneck(nn.Module):
    """1x1 to a quarter of `channels`, 3x3, 1x1 back, and a shortcut.

    The 3x3 convolution has the stride, as in every published teacher with torchvision's names; with `stride_in_1x1` the first
    convolution has it, as in the authors' models. The paper does not say which.
    """

    def __init__(self, in_channels: int, channels: int, stride: int, *, stride_in_1x1: bool) -> None:
        super().__init__()
        inner, (first, second) = channels // BOTTLENECK, (stride, 1) if stride_in_1x1 else (1, stride)
        self.conv1 = nn.Conv2d(in_channels, inner, 1, stride=first, bias=False)
        self.bn1 = nn.BatchNorm2d(inner)
        self.conv2 = nn.Conv2d(inner, inner, 3, stride=second, padding=1, bias=False)
        self.bn2 = nn.BatchNorm2d(inner)
        self.conv3 = nn.Conv2d(inner, channels, 1, bias=False)
        self.bn3 = nn.BatchNorm2d(channels)
        self.shortcut = _shortcut(in_channels, channels, stride, _projected)

    def forward(self, x: Tensor) -> Tensor:
        out = F.relu(self.bn1(self.conv1(x)), inplace=True)
        out = F.relu(self.bn2(self.conv2(out)), inplace=True)
        return F.relu(self.bn3(self.conv3(out)) + self.shortcut(x), inplace=True)


class ResNet(nn.Module):
    """Stem, four stages of widths 64/128/256/512 and, by default, strides 1/2/2/2, average pool, linear classifier.

    `max_pool`: adds torchvision's 3x3 max-pool of stride 2 after the stem, which networks for small images leave out. The output
    of `block` is `expansion` times as wide as given above.
    """

    def __init__(
        self,
        blocks_per_stage: tuple[int, int, int, int],
        *,
        num_classes: int,
        channels: int,
        stem_stride: int = 1,
        max_pool: bool = False,
        strides: tuple[int, int, int, int] = (1, 2, 2, 2),
        block: Block = BasicBlock,
        expansion: int = 1,
    ) -> None:
        super().__init__()
        first, second, third, fourth = (expansion * width for width in WIDTHS)
        self.conv1 = nn.Conv2d(channels, 64, 3, stride=stem_stride, padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(64)
        self.has_max_pool = max_pool
        self.layer1 = _stage(block, 64, first, blocks_per_stage[0], stride=strides[0])
        self.layer2 = _stage(block, first, second, blocks_per_stage[1], stride=strides[1])
        self.layer3 = _stage(block, second, third, blocks_per_stage[2], stride=strides[2])
        self.layer4 = _stage(block, third, fourth, blocks_per_stage[3], stride=strides[3])
        self.linear = nn.Linear(fourth, num_classes)
        self.feature_dim = fourth

    @property
    def stages(self) -> tuple[nn.Module, ...]:
        """The modules whose outputs are this network's stage outputs, first to last."""
        return self.layer1, self.layer2, self.layer3, self.layer4

    def forward(self, x: Tensor) -> Output:
        out = F.relu(self.bn1(self.conv1(x)), inplace=True)
        if self.has_max_pool:
            out = F.max_pool2d(out, 3, stride=2, padding=1)
        out = self.layer4(self.layer3(self.layer2(self.layer1(out))))
        features = F.adaptive_avg_pool2d(out, 1).flatten(1)
        return Output(features, self.linear(features))


class BottleneckResNet(ResNet):
    """ResNet-50 and deeper: bottleneck blocks, with stages four times as wide."""

    def __init__(self, blocks_per_stage: tuple[int, int, int, int], *, stride_in_1x1: bool = False, **options: Any) -> None:
        block = partial(Bottleneck, stride_in_1x1=stride_in_1x1)
        super().__init__(blocks_per_stage, block=block, expansion=BOTTLENECK, **options)


class CifarResNet(nn.Module):
    """A ResNet of 6n + 2 layers: stem, three stages of n blocks and strides 1/2/2, average pool, linear classifier.

    `widths`: of the stem and of each stage. Where the shape changes, a 1x1 convolution projects the shortcut: option B, which is
    what most of the published distillation teachers have.
    """

    def __init__(
        self,
        depth: int,
        widths: Widths,
        *,
        num_classes: int,
        channels: int,
        stem_stride: int = 1,
        shortcut: str = "projected",
    ) -> None:
        super().__init__()
        num_blocks = (depth - 2) // 6
        stem, first, second, third = widths
        block = partial(BasicBlock, shortcut=SHORTCUTS[shortcut])
        self.conv1 = nn.Conv2d(channels, stem, 3, stride=stem_stride, padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(stem)
        self.layer1 = _stage(block, stem, first, num_blocks, stride=1)
        self.layer2 = _stage(block, first, second, num_blocks, stride=2)
        self.layer3 = _stage(block, second, third, num_blocks, stride=2)
        self.linear = nn.Linear(third, num_classes)
        self.feature_dim = third
        self._init_weights()

    @property
    def stages(self) -> tuple[nn.Module, ...]:
        """The modules whose outputs are this network's stage outputs, first to last."""
        return self.layer1, self.layer2, self.layer3

    def _init_weights(self) -> None:
        """Draw convolutions as in He et al. 2015 (arXiv:1502.01852), eq. 10, which the paper follows."""
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.kaiming_normal_(module.weight)

    def forward(self, x: Tensor) -> Output:
        out = F.relu(self.bn1(self.conv1(x)), inplace=True)
        out = self.layer3(self.layer2(self.layer1(out)))
        features = F.adaptive_avg_pool2d(out, 1).flatten(1)
        return Output(features, self.linear(features))


class PaddedCifarResNet(CifarResNet):
    """The same with shortcuts of option A, as in the paper on CIFAR-10: without weights, with zeros for the new channels."""

    def __init__(self, depth: int, widths: Widths, *, zeros: Literal["around", "behind"] = "around", **options: Any) -> None:
        super().__init__(depth, widths, shortcut=f"zeros_{zeros}", **options)


def _stage(block: Block, in_channels: int, channels: int, num_blocks: int, *, stride: int) -> nn.Sequential:
    blocks = [block(in_channels, channels, stride)]
    blocks += [block(channels, channels, 1) for _ in range(num_blocks - 1)]
    return nn.Sequential(*blocks)


def _shortcut(in_channels: int, channels: int, stride: int, changed: Block) -> nn.Module:
    """Empty (the identity) if the shape does not change; else what `changed` makes."""
    return nn.Sequential() if stride == 1 and in_channels == channels else changed(in_channels, channels, stride)
