"""ShuffleNet-v2 for small images (Ma et al. 2018, arXiv:1807.11164), with torchvision's state-dict keys."""

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from cpsc.models.output import Output

STEM_WIDTH = 24
NUM_BLOCKS = (4, 8, 4)
"""Number of blocks of each stage, table 5 of the paper."""
GROUPS = 2
Widths = tuple[int, int, int]


class ShuffleBlock(nn.Module):
    """One half of the channels passes through a bottleneck, the other is unchanged; then the channels of both are interleaved.

    With stride 2 both branches take all channels and have layers, and the number of channels may change. Figure 3 (c), (d).
    """

    def __init__(self, in_channels: int, channels: int, *, stride: int) -> None:
        super().__init__()
        half = channels // 2
        self.is_split = stride == 1
        entering = in_channels // 2 if self.is_split else in_channels
        self.branch1 = nn.Sequential()
        if not self.is_split:
            self.branch1 = nn.Sequential(*_depthwise(entering, stride), *_pointwise(entering, half))
        self.branch2 = nn.Sequential(*_pointwise(entering, half), *_depthwise(half, stride), *_pointwise(half, half))

    def forward(self, x: Tensor) -> Tensor:
        first, second = x.chunk(2, dim=1) if self.is_split else (x, x)
        return _shuffled(torch.cat([self.branch1(first), self.branch2(second)], dim=1))


class ShuffleNetV2(nn.Module):
    """A stem of stride 1 without a pool (torchvision's has stride 2 and a pool), three stages, a 1x1 convolution, a classifier.

    `widths` of the stages and `feature_dim` of the classifier's input are in table 5 of the paper. `stem_side`: kernel size of the
    stem, 3 in the paper, 1 in CRD (Tian et al. 2020, arXiv:1910.10699).
    """

    def __init__(
        self,
        widths: Widths,
        feature_dim: int,
        stem_side: int,
        *,
        num_classes: int,
        channels: int,
        stem_stride: int = 1,
        max_pool: bool = False,
    ) -> None:
        super().__init__()
        self.conv1 = nn.Sequential(
            nn.Conv2d(channels, STEM_WIDTH, stem_side, stride=stem_stride, padding=stem_side // 2, bias=False),
            nn.BatchNorm2d(STEM_WIDTH),
            nn.ReLU(inplace=True),
        )
        self.has_max_pool = max_pool
        (first, second, third), (width2, width3, width4) = NUM_BLOCKS, widths
        self.stage2 = _stage(STEM_WIDTH, width2, first)
        self.stage3 = _stage(width2, width3, second)
        self.stage4 = _stage(width3, width4, third)
        self.conv5 = nn.Sequential(*_pointwise(width4, feature_dim))
        self.fc = nn.Linear(feature_dim, num_classes)
        self.feature_dim = feature_dim

    @property
    def stages(self) -> tuple[nn.Module, ...]:
        """The modules whose outputs are this network's stage outputs, first to last."""
        return self.stage2, self.stage3, self.stage4

    def forward(self, x: Tensor) -> Output:
        out = self.conv1(x)
        if self.has_max_pool:
            out = F.max_pool2d(out, 3, stride=2, padding=1)
        out = self.conv5(self.stage4(self.stage3(self.stage2(out))))
        features = F.adaptive_avg_pool2d(out, 1).flatten(1)
        return Output(features, self.fc(features))


def _stage(in_channels: int, channels: int, num_blocks: int) -> nn.Sequential:
    blocks = [ShuffleBlock(in_channels, channels, stride=2)]
    blocks += [ShuffleBlock(channels, channels, stride=1) for _ in range(num_blocks - 1)]
    return nn.Sequential(*blocks)


def _pointwise(in_channels: int, channels: int) -> list[nn.Module]:
    return [nn.Conv2d(in_channels, channels, 1, bias=False), nn.BatchNorm2d(channels), nn.ReLU(inplace=True)]


def _depthwise(channels: int, stride: int) -> list[nn.Module]:
    """Depthwise convolution without an activation, as in the paper."""
    convolution = nn.Conv2d(channels, channels, 3, stride=stride, padding=1, groups=channels, bias=False)
    return [convolution, nn.BatchNorm2d(channels)]


def _shuffled(x: Tensor) -> Tensor:
    """[B, K, H, W] -> the same with the channels of both halves interleaved."""
    return x.unflatten(1, (GROUPS, -1)).transpose(1, 2).flatten(1, 2)
