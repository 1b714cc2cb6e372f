"""LeNet-5 (LeCun et al. 1998, Proc. IEEE 86(11), sec. II-B), in the form of the published MNIST teachers."""

from typing import ClassVar

from torch import Tensor, nn
from torch.nn import functional as F

from cpsc.models.output import Output

SIZE, UNPADDED_SIZE, PADDING = 32, 28, 2
"""Side length in pixels: the paper's, MNIST's own, and the zeros (in the teacher's space) to pad on each side to get from it."""
Widths = tuple[int, int, int, int]


class LeNet(nn.Module):
    """Three 5x5 convolutions without padding, a 2x2 pool after each of the first two, two linear layers; no batch norm.

    From 32 pixels the convolutions produce 28, 10 and 1, the pools 14 and 5. `widths`: those of the convolutions and of the layer
    before the classifier, 6, 16, 120, 84 in LeNet-5. Uses ReLU, max-pools and full connections between all layers, like DAFL's
    teachers (Chen et al. 2019, arXiv:1904.01186); with `smooth` tanh and average pools, which are closer to the paper.
    """

    IMAGE_SIZES: ClassVar[tuple[int, ...]] = (UNPADDED_SIZE, SIZE)
    """The only sizes for which the last map is a single pixel."""

    def __init__(self, widths: Widths, *, num_classes: int, channels: int, smooth: bool = False) -> None:
        super().__init__()
        first, second, third, hidden = widths
        self.conv1 = nn.Conv2d(channels, first, 5)
        self.conv2 = nn.Conv2d(first, second, 5)
        self.conv3 = nn.Conv2d(second, third, 5)
        self.fc1 = nn.Linear(third, hidden)
        self.fc2 = nn.Linear(hidden, num_classes)
        self.feature_dim = hidden
        self.is_smooth = smooth

    @property
    def stages(self) -> tuple[nn.Module, ...]:
        """Empty: no published attention transfer defines stages of this network."""
        return ()

    def forward(self, x: Tensor) -> Output:
        if x.shape[-1] == UNPADDED_SIZE:
            x = F.pad(x, (PADDING,) * 4)
        out = self._pooled(self._activated(self.conv1(x)))
        out = self._pooled(self._activated(self.conv2(out)))
        out = self._activated(self.conv3(out)).flatten(1)
        features = self._activated(self.fc1(out))
        return Output(features, self.fc2(features))

    def _activated(self, x: Tensor) -> Tensor:
        return x.tanh() if self.is_smooth else F.relu(x)

    def _pooled(self, x: Tensor) -> Tensor:
        return F.avg_pool2d(x, 2) if self.is_smooth else F.max_pool2d(x, 2)
