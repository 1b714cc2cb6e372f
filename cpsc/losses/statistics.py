"""Distance between batch-norm statistics."""

from collections.abc import Iterator, Sequence

import torch
from torch import Tensor

from cpsc.statistics import ChannelStatistics

VARIANCE_FLOOR = 1e-8


def batch_statistics_distance(observed: Sequence[ChannelStatistics | None], stored: Sequence[ChannelStatistics]) -> Tensor:
    """Sum over layers of ||mean - stored mean||_2 + ||var - stored var||_2 -> []. CPSC-DFKD eq. 2.

    Yin et al. 2020 (arXiv:1912.08795), eq. 4, without squares. Norms run over the layer's channels; the observed variance is
    biased (divided by N). Differentiable in `observed`. A layer at distance 0 has gradient 0; a layer that was not observed (None)
    is left out of the sum.
    """
    distances = [
        torch.linalg.vector_norm(seen.mean - kept.mean) + torch.linalg.vector_norm(seen.var - kept.var)
        for seen, kept in _pairs(observed, stored)
    ]
    return torch.stack(distances).sum()


def gaussian_statistics_kl(observed: Sequence[ChannelStatistics | None], stored: Sequence[ChannelStatistics]) -> Tensor:
    """Sum over layers and channels of KL(N(mean, var) || N(stored mean, stored var)) -> [].

    DFQ, Choi et al. 2020 (arXiv:2005.04136). Variances below `VARIANCE_FLOOR` are raised to it.
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
    """Pairs by layer; both sequences list the layers in the same order."""
    if len(observed) != len(stored):
        raise ValueError(f"{len(observed)} layers observed, {len(stored)} stored: both must list the same layers in the same order")
    return ((seen, kept) for seen, kept in zip(observed, stored, strict=True) if seen is not None)
