"""MobileNet-v2 for small images (Sandler et al. 2018, arXiv:1801.04381), with torchvision's state-dict keys."""

from torch import Tensor, nn
from torch.nn import functional as F

from cpsc.models.output import Output

STEM_WIDTH, FEATURE_DIM = 32, 1280
BLOCKS = ((1, 16, 1, 1), (6, 24, 2, 2), (6, 32, 3, 2), (6, 64, 4, 2), (6, 96, 3, 1), (6, 160, 3, 2), (6, 320, 1, 1))
"""Table 2 of the paper: expansion, width, number of blocks, stride of the first block."""
STRIDES = tuple(stride for *_, stride in BLOCKS)


class InvertedResidual(nn.Module):
    """1x1 expansion (omitted if the factor is 1), depthwise 3x3, linear 1x1; a shortcut if the shape does not change."""

    def __init__(self, in_channels: int, channels: int, *, expansion: int, stride: int) -> None:
        super().__init__()
        hidden = in_channels * expansion
        expand = [] if expansion == 1 else [_conv_norm_relu(in_channels, hidden, kernel=1)]
        self.conv = nn.Sequential(
            *expand,
            _conv_norm_relu(hidden, hidden, kernel=3, stride=stride, groups=hidden),
            nn.Conv2d(hidden, channels, 1, bias=False),
            nn.BatchNorm2d(channels),
        )
        self.has_shortcut = stride == 1 and in_channels == channels

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.conv(x)
        return x + out if self.has_shortcut else out


class MobileNetV2(nn.Module):
    """A stem of stride 1 (torchvision's has 2, with the same keys), seventeen inverted residuals, a 1x1 to 1280, a classifier.

    `strides`: stride of the first block of each stage; default: those of table 2.

    The dropout of 0.2 before the classifier is left out: it would draw from torch's global generator, which a run neither
    seeds nor saves, so an interrupted run would no longer equal an uninterrupted one. In evaluation there is no difference.
    """

    def __init__(self, *, num_classes: int, channels: int, stem_stride: int = 1, strides: tuple[int, ...] = STRIDES) -> None:
        super().__init__()
        layers: list[nn.Module] = [_conv_norm_relu(channels, STEM_WIDTH, kernel=3, stride=stem_stride)]
        in_channels = STEM_WIDTH
        for (expansion, width, num_blocks, _), first_stride in zip(BLOCKS, strides, strict=True):
            for index in range(num_blocks):
                stride = first_stride if index == 0 else 1
                layers.append(InvertedResidual(in_channels, width, expansion=expansion, stride=stride))
                in_channels = width
        layers.append(_conv_norm_relu(in_channels, FEATURE_DIM, kernel=1))
        self.features = nn.Sequential(*layers)
        # The classifier's published key is classifier.1, because index 0 is the dropout.
        self.classifier = nn.Sequential(nn.Identity(), nn.Linear(FEATURE_DIM, num_classes))
        self.feature_dim = FEATURE_DIM
        self._init_weights()

    @property
    def stages(self) -> tuple[nn.Module, ...]:
        """Empty: no published attention transfer defines stages of this network."""
        return ()

    def _init_weights(self) -> None:
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                # This fan-out counts all outputs of a depthwise convolution, although each weight reaches only one of them.
                nn.init.kaiming_normal_(module.weight, mode="fan_out")
            elif isinstance(module, nn.Linear):
                nn.init.normal_(module.weight, 0.0, 0.01)
                nn.init.zeros_(module.bias)

    def forward(self, x: Tensor) -> Output:
        features = F.adaptive_avg_pool2d(self.features(x), 1).flatten(1)
        return Output(features, self.classifier(features))


def _conv_norm_relu(in_channels: int, channels: int, *, kernel: int, stride: int = 1, groups: int = 1) -> nn.Sequential:
    return nn.Sequential(
        nn.Conv2d(in_channels, channels, kernel, stride=stride, padding=kernel // 2, groups=groups, bias=False),
        nn.BatchNorm2d(channels),
        nn.ReLU6(inplace=True),
    )
