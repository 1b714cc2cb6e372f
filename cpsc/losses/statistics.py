"""Distance between batch-norm statistics."""

from collections.abc import Sequence

import torch
from torch import Tensor

from cpsc.statistics import ChannelStatistics


def batch_statistics_distance(observed: Sequence[ChannelStatistics], stored: Sequence[ChannelStatistics]) -> Tensor:
    """Sum over layers of ||mean - stored mean||_2 + ||var - stored var||_2 -> []. CPSC-DFKD eq. 2.

    Yin et al. 2020 (arXiv:1912.08795), eq. 4, without squares. Norms run over the layer's channels; the
    observed variance is biased (divided by N). Differentiable in `observed`; a layer at distance 0 has gradient 0.
    """
    if len(observed) != len(stored):
        raise ValueError(f"{len(observed)} layers observed, {len(stored)} stored: record exactly one forward pass")
    distances = [
        torch.linalg.vector_norm(seen.mean - kept.mean) + torch.linalg.vector_norm(seen.var - kept.var)
        for seen, kept in zip(observed, stored, strict=True)
    ]
    return torch.stack(distances).sum()
