"""Vision transformer for small images (Dosovitskiy et al. 2021, arXiv:2010.11929), with layer norms only."""

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from cpsc.models.output import Output

PATCH = 4
"""Side of a patch in pixels: 64 patches of a 32-pixel image, 16 of a 16-pixel one."""
GRID = 8
"""Position embeddings are learned for this many patches per side, and interpolated for other image sizes (sec. 3.2)."""
PLACES_STD = 0.02


class EncoderBlock(nn.Module):
    """Layer norm before the attention and before the two-layer perceptron, with a shortcut around each. Eq. 2 and 3."""

    def __init__(self, dim: int, *, num_heads: int, hidden: int) -> None:
        super().__init__()
        self.num_heads = num_heads
        self.norm1 = nn.LayerNorm(dim)
        self.qkv = nn.Linear(dim, 3 * dim)
        self.project = nn.Linear(dim, dim)
        self.norm2 = nn.LayerNorm(dim)
        self.grow = nn.Linear(dim, hidden)
        self.shrink = nn.Linear(hidden, dim)

    def forward(self, x: Tensor) -> Tensor:
        """[B, N, D] -> [B, N, D]."""
        x = x + self._attention(self.norm1(x))
        out: Tensor = x + self.shrink(F.gelu(self.grow(self.norm2(x))))
        return out

    def _attention(self, x: Tensor) -> Tensor:
        queries, keys, values = self.qkv(x).unflatten(2, (3, self.num_heads, -1)).permute(2, 0, 3, 1, 4)
        mixed = F.scaled_dot_product_attention(queries, keys, values)
        out: Tensor = self.project(mixed.transpose(1, 2).flatten(2))
        return out


class VisionTransformer(nn.Module):
    """Patches of `PATCH` pixels, learned position embeddings, pre-norm encoder, average over patches, linear classifier.

    The average replaces the class token and works equally well (app. D.3). Dropout is left out: it would draw from torch's global
    generator, which a run neither seeds nor saves.
    """

    def __init__(self, *, num_classes: int, channels: int, dim: int = 128, depth: int = 6, num_heads: int = 4) -> None:
        super().__init__()
        self.patches = nn.Conv2d(channels, dim, PATCH, stride=PATCH)
        self.places = nn.Parameter(torch.zeros(1, dim, GRID, GRID))
        self.blocks = nn.Sequential(*(EncoderBlock(dim, num_heads=num_heads, hidden=2 * dim) for _ in range(depth)))
        self.norm = nn.LayerNorm(dim)
        self.head = nn.Linear(dim, num_classes)
        self.feature_dim = dim
        self._init_weights()

    @property
    def stages(self) -> tuple[nn.Module, ...]:
        """Empty: attention transfer compares maps of channels, which this network does not have."""
        return ()

    def _init_weights(self) -> None:
        """As in the authors' code: Glorot's uniform for linear layers, biases 0, small normal position embeddings."""
        for module in self.modules():
            if isinstance(module, nn.Linear):
                nn.init.xavier_uniform_(module.weight)
                nn.init.zeros_(module.bias)
        nn.init.normal_(self.places, std=PLACES_STD)

    def forward(self, x: Tensor) -> Output:
        patches = self.patches(x)
        places: Tensor = self.places
        if patches.shape[2:] != places.shape[2:]:
            places = F.interpolate(places, size=patches.shape[2:], mode="bilinear", align_corners=False)
        features = self.norm(self.blocks((patches + places).flatten(2).transpose(1, 2))).mean(dim=1)
        return Output(features, self.head(features))
