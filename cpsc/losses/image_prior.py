"""Image priors of model inversion: what makes pixels look like an image rather than noise. Images are [B, K, H, W]."""

import torch
from torch import Tensor


def total_variation(images: Tensor) -> Tensor:
    """Sum of the 2-norms of horizontal, vertical and two diagonal differences of the whole batch -> [].

    DeepInversion, Yin et al. 2020 (arXiv:1912.08795), eq. 3. It is not a mean, so a good weight depends on batch and image size.
    """
    return torch.stack([torch.linalg.vector_norm(difference) for difference in _differences(images)]).sum()


def mean_total_variation(images: Tensor) -> Tensor:
    """Sum of the mean magnitudes of the same four differences -> []: the DataFree toolbox's form, independent of the sizes."""
    return torch.stack([difference.abs().mean() for difference in _differences(images)]).sum()


def image_norm(images: Tensor) -> Tensor:
    """2-norm of the whole batch -> []. DeepInversion, Yin et al. 2020 (arXiv:1912.08795), eq. 3."""
    return torch.linalg.vector_norm(images)


def _differences(images: Tensor) -> tuple[Tensor, ...]:
    return (
        images[..., :, 1:] - images[..., :, :-1],
        images[..., 1:, :] - images[..., :-1, :],
        images[..., 1:, 1:] - images[..., :-1, :-1],
        images[..., 1:, :-1] - images[..., :-1, 1:],
    )
