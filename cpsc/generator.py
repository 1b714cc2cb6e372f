"""The conditional generator and its categorical feature embedding (CPSC-DFKD, Shao et al. 2023, sec. 3.2)."""

from collections.abc import Callable

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from cpsc.config import GeneratorConfig
from cpsc.errors import ConfigError

EMBEDDING_EPS = 1e-3


class CategoricalFeatureEmbedding(nn.Module):
    """Batch norm over the mixed-class batch, then scale and shift looked up by label. Eq. 4.

    2 * classes * channels trainable values, scale 1 and shift 0 at the start; one set of running
    statistics for all classes.
    """

    def __init__(self, num_channels: int, num_classes: int) -> None:
        super().__init__()
        self.norm = nn.BatchNorm2d(num_channels, eps=EMBEDDING_EPS, affine=False)
        self.scale = nn.Parameter(torch.ones(num_classes, num_channels))
        self.shift = nn.Parameter(torch.zeros(num_classes, num_channels))

    def forward(self, x: Tensor, labels: Tensor) -> Tensor:
        """[B, K, H, W], [B] -> [B, K, H, W]."""
        normalised: Tensor = self.norm(x)
        return torch.addcmul(self.shift[labels][..., None, None], self.scale[labels][..., None, None], normalised)


class UnconditionalNorm(nn.Module):
    """Ordinary affine batch norm in an embedding's place: it ignores the label (table 5, without CFE)."""

    def __init__(self, num_channels: int, num_classes: int) -> None:
        del num_classes  # an embedding would size its tables by it
        super().__init__()
        self.norm = nn.BatchNorm2d(num_channels, eps=EMBEDDING_EPS)

    def forward(self, x: Tensor, labels: Tensor) -> Tensor:
        """[B, K, H, W], [B] -> [B, K, H, W]."""
        del labels
        out: Tensor = self.norm(x)
        return out


NORMS: dict[str, tuple[Callable[[int, int], nn.Module], ...]] = {
    "none": (UnconditionalNorm,) * 4,
    "three_layer": (CategoricalFeatureEmbedding,) * 3 + (UnconditionalNorm,),
    "full": (CategoricalFeatureEmbedding,) * 4,
}


class ConditionalGenerator(nn.Module):
    """Latents [B, nz] and labels [B] -> images [B, K, H, H] in the teacher's normalised space, unbounded.

    Linear to H/4 x H/4, twice (nearest upsampling x2, 3x3 convolution), a last 3x3 convolution, tanh, norm.
    """

    def __init__(self, config: GeneratorConfig, *, num_classes: int, channels: int, image_size: int) -> None:
        super().__init__()
        if image_size % 4:
            raise ConfigError(f"image size must be a multiple of 4 for the generator, got {image_size}")
        first, second, third, last = NORMS[config.embedding]
        self.width = width = config.width
        self.base_size = image_size // 4
        self.project = nn.Linear(config.latent_dim, width * self.base_size**2)
        self.norm0 = first(width, num_classes)
        self.conv1 = nn.Conv2d(width, width, 3, padding=1)
        self.norm1 = second(width, num_classes)
        self.conv2 = nn.Conv2d(width, width // 2, 3, padding=1)
        self.norm2 = third(width // 2, num_classes)
        self.to_image = nn.Conv2d(width // 2, channels, 3, padding=1)
        self.norm_image = last(channels, num_classes)

    def forward(self, latents: Tensor, labels: Tensor) -> Tensor:
        x = self.project(latents).unflatten(1, (self.width, self.base_size, self.base_size))
        x = _upsample(self.norm0(x, labels))
        x = _upsample(F.leaky_relu(self.norm1(self.conv1(x), labels), 0.2))
        x = F.leaky_relu(self.norm2(self.conv2(x), labels), 0.2)
        images: Tensor = self.norm_image(torch.tanh(self.to_image(x)), labels)
        return images


def _upsample(x: Tensor) -> Tensor:
    return F.interpolate(x, scale_factor=2.0, mode="nearest")
