"""Contrast between images: the two views of an image should match each other and no other image."""

import torch
from torch import Tensor
from torch.nn import functional as F


def instance_discrimination(local_views: Tensor, global_views: Tensor, *, num_new: int, temperature: float) -> Tensor:
    """Cross-entropy of finding each image's global view by its local one -> []. CMI, Fang et al. 2021 (arXiv:2105.08584), eq. 6.

    Unit vectors [N, d]: first the `num_new` images of the batch, then remembered ones. The global views carry no gradient. The
    means over new and over remembered images are added.
    """
    similarity = local_views @ global_views.detach().T / temperature
    losses = F.cross_entropy(similarity, torch.arange(len(similarity), device=similarity.device), reduction="none")
    if num_new == len(losses):
        return losses.mean()
    return losses[:num_new].mean() + losses[num_new:].mean()
