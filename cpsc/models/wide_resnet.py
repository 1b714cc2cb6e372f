"""Wide residual networks WRN-d-k (Zagoruyko and Komodakis 2016, arXiv:1605.07146), pre-activation form.

With batch norm as published, or with group norm (Wu and He 2018, arXiv:1803.08494), which treats each image separately.
"""

import math
from collections.abc import Callable

from torch import Tensor, nn
from torch.nn import functional as F

from cpsc.models.output import Output

Norm = Callable[[int], nn.Module]
"""Makes the norm for a number of channels."""
GROUP_CHANNELS = 8
"""Channels that a group norm normalises together: widths of 16, 32 and 64 have 2, 4 and 8 groups."""


class PreActBlock(nn.Module):
    """BN-ReLU-conv-BN-ReLU-conv; if the width changes, the shortcut is a 1x1 projection of the pre-activated tensor."""

    def __init__(self, in_channels: int, channels: int, stride: int, norm: Norm) -> None:
        super().__init__()
        self.bn1 = norm(in_channels)
        self.conv1 = nn.Conv2d(in_channels, channels, 3, stride=stride, padding=1, bias=False)
        self.bn2 = norm(channels)
        self.conv2 = nn.Conv2d(channels, channels, 3, padding=1, bias=False)
        # Named as in the keys of the published checkpoints.
        self.convShortcut = nn.Conv2d(in_channels, channels, 1, stride=stride, bias=False) if in_channels != channels else None

    def forward(self, x: Tensor) -> Tensor:
        activated = F.relu(self.bn1(x), inplace=True)
        shortcut = x if self.convShortcut is None else self.convShortcut(activated)
        out = F.relu(self.bn2(self.conv1(activated)), inplace=True)
        return self.conv2(out) + shortcut


class Group(nn.Module):
    """Blocks of one width; this wrapper exists because the published keys have the form ``blockG.layer.B``."""

    def __init__(self, in_channels: int, channels: int, num_blocks: int, stride: int, norm: Norm) -> None:
        super().__init__()
        blocks = [PreActBlock(in_channels, channels, stride, norm)]
        blocks += [PreActBlock(channels, channels, 1, norm) for _ in range(num_blocks - 1)]
        self.layer = nn.Sequential(*blocks)

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.layer(x)
        return out


class WideResNet(nn.Module):
    """WRN-`depth`-`width`: three groups of (depth - 4) / 6 blocks, widths 16k, 32k, 64k, strides 1, 2, 2.

    `norm`: makes the layers that are used as norms.
    """

    def __init__(
        self,
        depth: int,
        width: int,
        *,
        num_classes: int,
        channels: int,
        stem_stride: int = 1,
        norm: Norm = nn.BatchNorm2d,
    ) -> None:
        super().__init__()
        num_blocks = (depth - 4) // 6
        self.conv1 = nn.Conv2d(channels, 16, 3, stride=stem_stride, padding=1, bias=False)
        self.block1 = Group(16, 16 * width, num_blocks, stride=1, norm=norm)
        self.block2 = Group(16 * width, 32 * width, num_blocks, stride=2, norm=norm)
        self.block3 = Group(32 * width, 64 * width, num_blocks, stride=2, norm=norm)
        self.bn1 = norm(64 * width)
        self.fc = nn.Linear(64 * width, num_classes)
        self.feature_dim = 64 * width
        self._init_weights()

    @property
    def stages(self) -> tuple[nn.Module, ...]:
        """The modules whose outputs are this network's stage outputs, first to last; the third before the last norm."""
        return self.block1, self.block2, self.block3

    def _init_weights(self) -> None:
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                fan_out = module.kernel_size[0] * module.kernel_size[1] * module.out_channels
                nn.init.normal_(module.weight, 0.0, math.sqrt(2.0 / fan_out))
        nn.init.zeros_(self.fc.bias)

    def forward(self, x: Tensor) -> Output:
        out = self.block3(self.block2(self.block1(self.conv1(x))))
        features = F.adaptive_avg_pool2d(F.relu(self.bn1(out), inplace=True), 1).flatten(1)
        return Output(features, self.fc(features))


class GroupNormWideResNet(WideResNet):
    """The same with a group norm in place of each batch norm, under the same name."""

    def __init__(self, depth: int, width: int, *, num_classes: int, channels: int) -> None:
        super().__init__(depth, width, num_classes=num_classes, channels=channels, norm=_group_norm)


def _group_norm(num_channels: int) -> nn.Module:
    return nn.GroupNorm(num_channels // GROUP_CHANNELS, num_channels)
