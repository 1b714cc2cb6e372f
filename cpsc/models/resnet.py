"""CIFAR ResNets with a 3x3 stem (He et al. 2016, arXiv:1512.03385), state-dict keys as in the published teachers."""

from torch import Tensor, nn
from torch.nn import functional as F

from cpsc.models.output import Output


class BasicBlock(nn.Module):
    """Two 3x3 convolutions and a shortcut, projected by a 1x1 convolution where the shape changes."""

    def __init__(self, in_channels: int, channels: int, stride: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(in_channels, channels, 3, stride=stride, padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(channels)
        self.conv2 = nn.Conv2d(channels, channels, 3, padding=1, bias=False)
        self.bn2 = nn.BatchNorm2d(channels)
        self.shortcut = nn.Sequential()
        if stride != 1 or in_channels != channels:
            self.shortcut = nn.Sequential(
                nn.Conv2d(in_channels, channels, 1, stride=stride, bias=False),
                nn.BatchNorm2d(channels),
            )

    def forward(self, x: Tensor) -> Tensor:
        out = F.relu(self.bn1(self.conv1(x)), inplace=True)
        return F.relu(self.bn2(self.conv2(out)) + self.shortcut(x), inplace=True)


class ResNet(nn.Module):
    """Stem, four stages of widths 64/128/256/512 and, by default, strides 1/2/2/2, average pool, linear classifier.

    `max_pool`: torchvision's 3x3 one of stride 2 behind the stem, which networks for small images leave out.
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
    ) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(channels, 64, 3, stride=stem_stride, padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(64)
        self.has_max_pool = max_pool
        self.layer1 = _stage(64, 64, blocks_per_stage[0], stride=strides[0])
        self.layer2 = _stage(64, 128, blocks_per_stage[1], stride=strides[1])
        self.layer3 = _stage(128, 256, blocks_per_stage[2], stride=strides[2])
        self.layer4 = _stage(256, 512, blocks_per_stage[3], stride=strides[3])
        self.linear = nn.Linear(512, num_classes)
        self.feature_dim = 512

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


def _stage(in_channels: int, channels: int, num_blocks: int, *, stride: int) -> nn.Sequential:
    blocks = [BasicBlock(in_channels, channels, stride)]
    blocks += [BasicBlock(channels, channels, 1) for _ in range(num_blocks - 1)]
    return nn.Sequential(*blocks)
