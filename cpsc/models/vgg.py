"""VGG with batch norm for small images (Simonyan and Zisserman 2015, arXiv:1409.1556), with the published teachers' keys."""

import math
from collections.abc import Sequence

from torch import Tensor, nn
from torch.nn import functional as F

from cpsc.models.output import Output

LARGE_IMAGE = 64
"""From this side length on, a fourth pool follows group 3, so that group 4 sees 4x4 maps as with 32-pixel images."""


class Vgg(nn.Module):
    """Five groups of 3x3 convolutions with 2x2 max-pools between them, average pool, one linear classifier. CRD's teachers.

    `groups`: the widths of each group's convolutions. By default the pool after group 3 is only for images of at least
    `LARGE_IMAGE` pixels; `num_pools` sets the number of groups that are followed by a pool.
    """

    def __init__(self, groups: Sequence[Sequence[int]], *, num_classes: int, channels: int, num_pools: int | None = None) -> None:
        super().__init__()
        self.num_pools = num_pools
        first, second, third, fourth, fifth = groups
        self.block0 = _group(channels, first)
        self.block1 = _group(first[-1], second)
        self.block2 = _group(second[-1], third)
        self.block3 = _group(third[-1], fourth)
        self.block4 = _group(fourth[-1], fifth)
        self.classifier: nn.Module = nn.Linear(fifth[-1], num_classes)
        self.feature_dim = fifth[-1]
        init_weights(self)

    @property
    def stages(self) -> tuple[nn.Module, ...]:
        """The modules whose outputs are this network's stage outputs, first to last; before the pools."""
        return self.block0, self.block1, self.block2, self.block3, self.block4

    def forward(self, x: Tensor) -> Output:
        features = F.adaptive_avg_pool2d(self.maps(x), 1).flatten(1)
        return Output(features, self.classifier(features))

    def maps(self, x: Tensor) -> Tensor:
        """The input of the average pool."""
        num_pools = self.num_pools or (4 if x.shape[-1] >= LARGE_IMAGE else 3)
        out = x
        for index, group in enumerate(self.stages):
            out = group(out)
            if index < num_pools and min(out.shape[-2:]) > 1:
                out = F.max_pool2d(out, 2)
        return out


class PooledVgg(Vgg):
    """VGG with a pool after each group, which reduces 32 pixels to one, as in torchvision and the CIFAR zoos.

    `hidden`: width of the two layers before the classifier; None: there are none. Their dropout of 0.5 is left out for the same
    reason as in `MobileNetV2`.
    """

    def __init__(self, groups: Sequence[Sequence[int]], hidden: int | None = None, *, num_classes: int, channels: int) -> None:
        super().__init__(groups, num_classes=num_classes, channels=channels, num_pools=5)
        if hidden is not None:
            # Published keys are classifier.0, .3 and .6, because a dropout follows each of the first two.
            self.classifier = nn.Sequential(
                nn.Linear(self.feature_dim, hidden),
                nn.ReLU(inplace=True),
                nn.Identity(),
                nn.Linear(hidden, hidden),
                nn.ReLU(inplace=True),
                nn.Identity(),
                nn.Linear(hidden, num_classes),
            )
            self.feature_dim = hidden
            init_weights(self.classifier)

    def forward(self, x: Tensor) -> Output:
        features = F.adaptive_avg_pool2d(self.maps(x), 1).flatten(1)
        if not isinstance(self.classifier, nn.Sequential):
            return Output(features, self.classifier(features))
        *hidden, classifier = self.classifier
        for layer in hidden:
            features = layer(features)
        return Output(features, classifier(features))


def init_weights(network: nn.Module) -> None:
    """Draw convolutions by their fan-out and linear layers with a small deviation; biases are 0."""
    for module in network.modules():
        if isinstance(module, nn.Conv2d):
            fan_out = module.kernel_size[0] * module.kernel_size[1] * module.out_channels
            nn.init.normal_(module.weight, 0.0, math.sqrt(2.0 / fan_out))
            assert module.bias is not None
            nn.init.zeros_(module.bias)
        elif isinstance(module, nn.Linear):
            nn.init.normal_(module.weight, 0.0, 0.01)
            nn.init.zeros_(module.bias)


def _group(in_channels: int, widths: Sequence[int]) -> nn.Sequential:
    layers: list[nn.Module] = []
    for width in widths:
        layers += [nn.Conv2d(in_channels, width, 3, padding=1), nn.BatchNorm2d(width), nn.ReLU(inplace=True)]
        in_channels = width
    return nn.Sequential(*layers)
