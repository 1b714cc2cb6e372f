"""Distance between batch-norm statistics."""

from collections.abc import Iterator, Sequence

import torch
from torch import Tensor

from cpsc.statistics import ChannelStatistics

VARIANCE_FLOOR = 1e-8


def batch_statistics_distance(observed: Sequence[ChannelStatistics | None], stored: Sequence[ChannelStatistics]) -> Tensor:
    """Sum over layers of ||mean - stored mean||_2 + ||var - stored var||_2 -> []. CPSC-DFKD eq. 2.

    Yin et al. 2020 (arXiv:1912.08795), eq. 4, without squares. Norms run over the layer's channels; the
    observed variance is biased (divided by N). Differentiable in `observed`; a layer at distance 0 has gradient 0, and one
    that was not observed (None) is not in the sum.
    """
    distances = [
        torch.linalg.vector_norm(seen.mean - kept.mean) + torch.linalg.vector_norm(seen.var - kept.var)
        for seen, kept in _pairs(observed, stored)
    ]
    return torch.stack(distances).sum()


def gaussian_statistics_kl(observed: Sequence[ChannelStatistics | None], stored: Sequence[ChannelStatistics]) -> Tensor:
    """Sum over layers and channels of KL(N(mean, var) || N(stored mean, stored var)) -> [].

    DFQ, Choi et al. 2020 (arXiv:2005.04136). A channel whose observed variance is below `VARIANCE_FLOOR` counts as having that one.
    """
    divergences = []
    for seen, kept in _pairs(observed, stored):
        kept_var, var = kept.var.clamp_min(VARIANCE_FLOOR), seen.var.clamp_min(VARIANCE_FLOOR)
        spread = ((seen.mean - kept.mean).square() + var) / (2.0 * kept_var)
        divergences.append((spread - 0.5 * (var / kept_var).log() - 0.5).sum())
    return torch.stack(divergences).sum()


def _pairs(
    observed: Sequence[ChannelStatistics | None], stored: Sequence[ChannelStatistics]
) -> Iterator[tuple[ChannelStatistics, ChannelStatistics]]:
    """By layer: both stand in one order of layers."""
    if len(observed) != len(stored):
        raise ValueError(f"{len(observed)} layers observed, {len(stored)} stored: both must be of the same layers, in one order")
    return ((seen, kept) for seen, kept in zip(observed, stored, strict=True) if seen is not None)
