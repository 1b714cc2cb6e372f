"""Generators: CPSC-DFKD's conditional one (Shao et al. 2023, sec. 3.2), and those of other methods with the same structure."""

from collections.abc import Callable
from dataclasses import dataclass, replace

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.nn.utils import parametrizations, parametrize

from cpsc.config import GeneratorConfig
from cpsc.data.dataset import Normalisation
from cpsc.device import precise
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
        # Looked up in float32 but applied in the precision of the activations; else all that follows would become float32.
        scale, shift = (table[labels][..., None, None].to(normalised.dtype) for table in (self.scale, self.shift))
        return torch.addcmul(shift, scale, normalised)


class UnconditionalNorm(nn.Module):
    """Ordinary affine batch norm in place of an embedding; it ignores the label (table 5, without CFE)."""

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
        _check_size(image_size)
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
        x = _upsample(self.norm0(_unfold(self.project(latents), self.width, self.base_size), labels))
        x = _upsample(F.leaky_relu(self.norm1(self.conv1(x), labels), 0.2, inplace=True))
        x = F.leaky_relu(self.norm2(self.conv2(x), labels), 0.2, inplace=True)
        images: Tensor = self.norm_image(torch.tanh(precise(self.to_image(x))), labels)
        return images


@dataclass(frozen=True)
class Family:
    """How a published unconditional generator is built on the common structure."""

    eps: tuple[float, float, float]
    """Epsilons of the three batch norms. The published 0.8 was probably meant as a momentum."""
    stem: int = 1
    """Channels of the first stage, in multiples of the width."""
    inner_bias: bool = True
    spectral: str | None = None
    """How the largest singular values of its convolutions are estimated, a key of `SPECTRAL_NORMS`; None: no spectral norm."""
    output: str = "tanh"
    """`tanh`: followed by a batch norm without scale. `norm`: only an affine batch norm. `pixels`: a sigmoid, then the dataset's
    normalisation."""
    uniform_init: float | None = None
    """Weights of convolutions and projections drawn from U(-x, x), biases 0."""
    normal_init: float | None = None
    """Weights of convolutions and projections drawn from N(0, x), those of batch norms from N(1, x), biases 0."""


FAMILIES = {
    "pre": Family(eps=(1e-5, 0.8, 0.8), spectral="warmed", uniform_init=0.08),
    "pre_decoder": Family(eps=(1e-5, 0.8, 0.8), uniform_init=0.08),
    "dafl": Family(eps=(1e-5, 0.8, 0.8)),
    "zskt": Family(eps=(1e-5, 1e-5, 1e-5), output="norm"),
    "dfad": Family(eps=(1e-5, 1e-5, 1e-5)),
    "small": Family(eps=(1e-5, 1e-5, 1e-5), inner_bias=False, output="pixels", normal_init=0.02),
    "large": Family(eps=(1e-5, 1e-5, 1e-5), stem=2, inner_bias=False, output="pixels"),
}


class ColdSpectralNorm(nn.Module):
    """A weight [K, ...] over its largest singular value (Miyato et al. 2018, arXiv:1802.05957, alg. 1), in PyTorch's first form.

    The singular vectors start at random and take one power iteration per training pass, the right one first. In the first passes
    the value is underestimated, and the weights are too large.
    """

    def __init__(self, weight: Tensor) -> None:
        super().__init__()
        for name, size in zip(("left", "right"), weight.flatten(1).shape, strict=True):
            self.register_buffer(name, _unit(torch.randn(size)))
        self.left: Tensor
        self.right: Tensor

    def forward(self, weight: Tensor) -> Tensor:
        with torch.autocast(weight.device.type, enabled=False):
            matrix = weight.flatten(1)
            if self.training:
                with torch.no_grad():
                    self.right.copy_(_unit(matrix.T @ self.left))
                    self.left.copy_(_unit(matrix @ self.right))
            # Copies, because the next pass overwrites the vectors, which this pass still needs for its backward pass.
            return weight / (self.left.clone() @ (matrix @ self.right.clone()))


def _cold_spectral_norm(convolution: nn.Conv2d) -> None:
    # The check that `unsafe` skips would take a power iteration.
    parametrize.register_parametrization(convolution, "weight", ColdSpectralNorm(convolution.weight), unsafe=True)


def _unit(vector: Tensor) -> Tensor:
    return F.normalize(vector, dim=0)


SPECTRAL_NORMS: dict[str, Callable[[nn.Conv2d], object]] = {"warmed": parametrizations.spectral_norm, "cold": _cold_spectral_norm}
FINISHES: dict[str, Callable[[Tensor], Tensor]] = {"tanh": torch.tanh, "norm": lambda images: images, "pixels": torch.sigmoid}


class Generator(nn.Module):
    """Latents [B, nz] -> images [B, K, H, H] in the teacher's normalised space; labels are accepted but ignored.

    It has the structure of `ConditionalGenerator` with ordinary batch norms; `family` sets the details.
    """

    def __init__(
        self, family: Family, *, latent_dim: int, width: int, channels: int, image_size: int, normalisation: Normalisation
    ) -> None:
        super().__init__()
        _check_size(image_size)
        self.stem = family.stem * width
        self.base_size = image_size // 4
        self.makes_pixels = family.output == "pixels"
        self._normalisation = normalisation
        self.project = nn.Linear(latent_dim, self.stem * self.base_size**2)
        self.norm0 = nn.BatchNorm2d(self.stem, eps=family.eps[0])
        self.conv1 = nn.Conv2d(self.stem, width, 3, padding=1, bias=family.inner_bias)
        self.norm1 = nn.BatchNorm2d(width, eps=family.eps[1])
        self.conv2 = nn.Conv2d(width, width // 2, 3, padding=1, bias=family.inner_bias)
        self.norm2 = nn.BatchNorm2d(width // 2, eps=family.eps[2])
        self.to_image = nn.Conv2d(width // 2, channels, 3, padding=1)
        self.norm_image = nn.Identity() if self.makes_pixels else nn.BatchNorm2d(channels, affine=family.output == "norm")
        self._finish = FINISHES[family.output]
        initialise(self, family)
        if family.spectral:
            for convolution in (self.conv1, self.conv2, self.to_image):
                SPECTRAL_NORMS[family.spectral](convolution)

    def forward(self, latents: Tensor, labels: Tensor | None = None) -> Tensor:
        """[B, nz] -> [B, K, H, H]."""
        del labels
        images = self.raw(latents)
        return self._normalisation.from_unit(images) if self.makes_pixels else images

    def raw(self, latents: Tensor) -> Tensor:
        """The same before the dataset's normalisation: pixels in [0, 1] if the family makes pixels."""
        x = _upsample(self.norm0(_unfold(self.project(latents), self.stem, self.base_size)))
        x = _upsample(F.leaky_relu(self.norm1(self.conv1(x)), 0.2, inplace=True))
        x = F.leaky_relu(self.norm2(self.conv2(x)), 0.2, inplace=True)
        images: Tensor = self.norm_image(self._finish(precise(self.to_image(x))))
        return images


def initialise(network: nn.Module, family: Family) -> None:
    """Redraw the weights of `network` from torch's global random generator, as `family` says, else with PyTorch's defaults."""
    for module in network.modules():
        if isinstance(module, nn.Conv2d | nn.Linear | nn.BatchNorm2d):
            module.reset_parameters()
        if isinstance(module, nn.Conv2d | nn.Linear):
            if family.uniform_init is not None:
                nn.init.uniform_(module.weight, -family.uniform_init, family.uniform_init)
            if family.normal_init is not None:
                nn.init.normal_(module.weight, 0.0, family.normal_init)
            if module.bias is not None and (family.uniform_init or family.normal_init):
                nn.init.zeros_(module.bias)
        if isinstance(module, nn.BatchNorm2d) and module.affine and family.normal_init is not None:
            nn.init.normal_(module.weight, 1.0, family.normal_init)


def build_generator(
    config: GeneratorConfig, *, num_classes: int, channels: int, image_size: int, normalisation: Normalisation
) -> nn.Module:
    """The generator that `config` names: latents [B, nz], labels [B] -> images [B, K, H, H] in the teacher's space."""
    if config.family == "conditional":
        return ConditionalGenerator(config, num_classes=num_classes, channels=channels, image_size=image_size)
    family = FAMILIES[config.family]
    return Generator(
        replace(family, spectral=config.spectral_norm) if family.spectral else family,
        latent_dim=config.latent_dim,
        width=config.width,
        channels=channels,
        image_size=image_size,
        normalisation=normalisation,
    )


def _check_size(image_size: int) -> None:
    if image_size % 4:
        raise ConfigError(f"image size must be a multiple of 4 for the generator, got {image_size}")


def _unfold(projected: Tensor, channels: int, size: int) -> Tensor:
    """[B, channels * size^2] -> [B, channels, size, size], in the memory format that convolutions use."""
    return projected.unflatten(1, (channels, size, size)).contiguous(memory_format=torch.channels_last)


def _upsample(x: Tensor) -> Tensor:
    return F.interpolate(x, scale_factor=2.0, mode="nearest")
