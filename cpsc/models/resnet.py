"""CIFAR ResNets with a 3x3 stem (He et al. 2016, arXiv:1512.03385), state-dict keys as in the published teachers."""

from collections.abc import Callable
from functools import partial

from torch import Tensor, nn
from torch.nn import functional as F

from cpsc.models.output import Output

WIDTHS = (64, 128, 256, 512)
BOTTLENECK = 4
"""How many times narrower a bottleneck is than what enters and leaves its block."""
Block = Callable[[int, int, int], nn.Module]


class BasicBlock(nn.Module):
    """Two 3x3 convolutions and a shortcut, projected by a 1x1 convolution where the shape changes."""

    def __init__(self, in_channels: int, channels: int, stride: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(in_channels, channels, 3, stride=stride, padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(channels)
        self.conv2 = nn.Conv2d(channels, channels, 3, padding=1, bias=False)
        self.bn2 = nn.BatchNorm2d(channels)
        self.shortcut = _shortcut(in_channels, channels, stride)

    def forward(self, x: Tensor) -> Tensor:
        out = F.relu(self.bn1(self.conv1(x)), inplace=True)
        return F.relu(self.bn2(self.conv2(out)) + self.shortcut(x), inplace=True)


class Bottleneck(nn.Module):
    """1x1 to a quarter of `channels`, 3x3, 1x1 back, and a shortcut.

    The 3x3 convolution has the stride, as in every published teacher with torchvision's names, or with `stride_in_1x1` the first
    one, as in the paper's own models; which of them, the paper does not say.
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
        self.shortcut = _shortcut(in_channels, channels, stride)

    def forward(self, x: Tensor) -> Tensor:
        out = F.relu(self.bn1(self.conv1(x)), inplace=True)
        out = F.relu(self.bn2(self.conv2(out)), inplace=True)
        return F.relu(self.bn3(self.conv3(out)) + self.shortcut(x), inplace=True)


class ResNet(nn.Module):
    """Stem, four stages of widths 64/128/256/512 and, by default, strides 1/2/2/2, average pool, linear classifier.

    `max_pool`: torchvision's 3x3 one of stride 2 behind the stem, which networks for small images leave out. `block` makes a
    block of (channels that enter, channels that leave, stride), `expansion` times the widths above.
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
    """ResNet-50 and deeper: the same of bottleneck blocks, whose stages are four times as wide."""

    def __init__(
        self,
        blocks_per_stage: tuple[int, int, int, int],
        *,
        num_classes: int,
        channels: int,
        stem_stride: int = 1,
        max_pool: bool = False,
        strides: tuple[int, int, int, int] = (1, 2, 2, 2),
        stride_in_1x1: bool = False,
    ) -> None:
        super().__init__(
            blocks_per_stage,
            num_classes=num_classes,
            channels=channels,
            stem_stride=stem_stride,
            max_pool=max_pool,
            strides=strides,
            block=partial(Bottleneck, stride_in_1x1=stride_in_1x1),
            expansion=BOTTLENECK,
        )


def _stage(block: Block, in_channels: int, channels: int, num_blocks: int, *, stride: int) -> nn.Sequential:
    blocks = [block(in_channels, channels, stride)]
    blocks += [block(channels, channels, 1) for _ in range(num_blocks - 1)]
    return nn.Sequential(*blocks)


def _shortcut(in_channels: int, channels: int, stride: int) -> nn.Sequential:
    """Empty where the shape stays, or else a 1x1 convolution."""
    if stride == 1 and in_channels == channels:
        return nn.Sequential()
    return nn.Sequential(nn.Conv2d(in_channels, channels, 1, stride=stride, bias=False), nn.BatchNorm2d(channels))
