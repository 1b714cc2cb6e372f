"""ResNets of three stages for small images (He et al. 2016, arXiv:1512.03385, sec. 4.2), and the wide ones that CRD compares."""

from collections.abc import Callable, Mapping
from typing import Literal

from torch import Tensor, nn
from torch.nn import functional as F

from cpsc.models.output import Output

Widths = tuple[int, int, int, int]


class ZeroPadded(nn.Module):
    """Shortcut of option A: every `stride`-th pixel, and `added` channels of zeros; it has no weights.

    The paper does not say where the zeros stand: half of them before the old channels (`before`), or all behind.
    """

    def __init__(self, added: int, *, stride: int, before: int) -> None:
        super().__init__()
        self.stride = stride
        self.before, self.behind = before, added - before

    def forward(self, x: Tensor) -> Tensor:
        return F.pad(x[:, :, :: self.stride, :: self.stride], (0, 0, 0, 0, self.before, self.behind))


def _projected(in_channels: int, channels: int, stride: int) -> nn.Module:
    """Shortcut of option B."""
    return nn.Sequential(nn.Conv2d(in_channels, channels, 1, stride=stride, bias=False), nn.BatchNorm2d(channels))


def _zeros_around(in_channels: int, channels: int, stride: int) -> nn.Module:
    return ZeroPadded(channels - in_channels, stride=stride, before=(channels - in_channels) // 2)


def _zeros_behind(in_channels: int, channels: int, stride: int) -> nn.Module:
    return ZeroPadded(channels - in_channels, stride=stride, before=0)


SHORTCUTS: Mapping[str, Callable[[int, int, int], nn.Module]] = {
    "projected": _projected,
    "zeros_around": _zeros_around,
    "zeros_behind": _zeros_behind,
}
"""What stands beside two convolutions that change the shape."""


class CifarBlock(nn.Module):
    """Two 3x3 convolutions and a shortcut."""

    def __init__(self, in_channels: int, channels: int, stride: int, shortcut: str) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(in_channels, channels, 3, stride=stride, padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(channels)
        self.conv2 = nn.Conv2d(channels, channels, 3, padding=1, bias=False)
        self.bn2 = nn.BatchNorm2d(channels)
        is_same = stride == 1 and in_channels == channels
        self.shortcut = nn.Sequential() if is_same else SHORTCUTS[shortcut](in_channels, channels, stride)

    def forward(self, x: Tensor) -> Tensor:
        out = F.relu(self.bn1(self.conv1(x)), inplace=True)
        return F.relu(self.bn2(self.conv2(out)) + self.shortcut(x), inplace=True)


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
        self.conv1 = nn.Conv2d(channels, stem, 3, stride=stem_stride, padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(stem)
        self.layer1 = _stage(stem, first, num_blocks, stride=1, shortcut=shortcut)
        self.layer2 = _stage(first, second, num_blocks, stride=2, shortcut=shortcut)
        self.layer3 = _stage(second, third, num_blocks, stride=2, shortcut=shortcut)
        self.linear = nn.Linear(third, num_classes)
        self.feature_dim = third
        self._init_weights()

    @property
    def stages(self) -> tuple[nn.Module, ...]:
        """The modules whose outputs are this network's stage outputs, first to last."""
        return self.layer1, self.layer2, self.layer3

    def _init_weights(self) -> None:
        """Convolutions as in He et al. 2015 (arXiv:1502.01852), eq. 10, which the paper follows."""
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.kaiming_normal_(module.weight)

    def forward(self, x: Tensor) -> Output:
        out = F.relu(self.bn1(self.conv1(x)), inplace=True)
        out = self.layer3(self.layer2(self.layer1(out)))
        features = F.adaptive_avg_pool2d(out, 1).flatten(1)
        return Output(features, self.linear(features))


class PaddedCifarResNet(CifarResNet):
    """The same with shortcuts of option A, as the paper has them on CIFAR-10: without weights, zeros for the new channels."""

    def __init__(
        self,
        depth: int,
        widths: Widths,
        *,
        num_classes: int,
        channels: int,
        stem_stride: int = 1,
        zeros: Literal["around", "behind"] = "around",
    ) -> None:
        super().__init__(
            depth, widths, num_classes=num_classes, channels=channels, stem_stride=stem_stride, shortcut=f"zeros_{zeros}"
        )


def _stage(in_channels: int, channels: int, num_blocks: int, *, stride: int, shortcut: str) -> nn.Sequential:
    blocks = [CifarBlock(in_channels, channels, stride, shortcut)]
    blocks += [CifarBlock(channels, channels, 1, shortcut) for _ in range(num_blocks - 1)]
    return nn.Sequential(*blocks)
