"""Frechet distance of synthetic images from real ones: of Gaussians fitted to two sets of features.

It is called FID with one network's features only, the original FID's Inception; with the teacher's it is a distance of its own.
"""

import hashlib
import io
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from cpsc.errors import ConfigError, DataError
from cpsc.metrics import EVALUATION_BATCH, evaluating
from cpsc.torchvision_cure import import_torchvision

INCEPTION_SHA256 = "6726825d0af5f729cebd5821db510b11b1cfad8faad88a03f1befd49fb9129b2"
"""Of pt_inception-2015-12-05-6726825d.pth, the TensorFlow weights of Heusel et al. 2017, as every published FID has them."""
INCEPTION_BATCH = 64
COMPARABLE_IMAGES = 10_000
"""With fewer on a side the 2048-dimensional covariances are so noisy that FIDs are not compared."""
CHUNK = 8192
"""Rows turned to float64 at a time: whole, the features of 100,000 images would take 1.6 GB."""


class InceptionFid(NamedTuple):
    """An FID, and on how many images of each side."""

    distance: float
    num_real: int
    num_synthetic: int

    @property
    def is_comparable(self) -> bool:
        """Whether both sides are large enough for a comparison with published figures."""
        return min(self.num_real, self.num_synthetic) >= COMPARABLE_IMAGES


def frechet_distance(real_features: Tensor, synthetic_features: Tensor) -> float:
    """|m_r - m_s|^2 + trace(S_r + S_s - 2 (S_r S_s)^(1/2)) of features [N, d] and [M, d], in float64.

    Heusel et al. 2017 (arXiv:1706.08500), eq. 6; covariances are unbiased. No matrix root is taken: with S = R^T R, the
    eigenvalues of S_r S_s are the squared singular values of R_r R_s^T, so their sum is the root's trace (Mathiasen &
    Hvilshoj 2020, arXiv:2009.14075). That is real, and exact for singular covariances, which need no diagonal offset.
    R comes from a QR of the centred features, which loses no digits in a squared matrix.
    Raises DataError for fewer than two rows, features of two widths, or one that is not finite.
    """
    _check_features(real_features, synthetic_features)
    real_mean, real_factor = _gaussian(real_features)
    synthetic_mean, synthetic_factor = _gaussian(synthetic_features)
    root_trace = torch.linalg.svdvals(real_factor @ synthetic_factor.T).sum()
    means = (real_mean - synthetic_mean).square().sum()
    distance = means + real_factor.square().sum() + synthetic_factor.square().sum() - 2.0 * root_trace
    return max(distance.item(), 0.0)  # rounding may take equal sets below


def penultimate_features(network: nn.Module, images: Tensor) -> Tensor:
    """[N, K, H, W], normalised as `network` expects -> [N, d], in eval mode and float32.

    Synthetic images should have been through uint8, as real ones have. The distance of a teacher's features is not an FID,
    and comparable for one teacher only.
    """
    with evaluating(network):
        features = torch.cat([network(batch).features.float().flatten(1) for batch in images.split(EVALUATION_BATCH)])
    return features.clone()  # outside, so that it is an ordinary tensor


def inception_fid(
    real_images: Tensor,
    synthetic_images: Tensor,
    weights: Path,
    *,
    device: torch.device | None = None,
    on_image: Callable[[int, int], None] = lambda done, total: None,
) -> InceptionFid:
    """FID of uint8 images [N, K, H, W], K 1 or 3, by the original Inception-v3's 2048 features. Nothing is downloaded.

    The library enlarges them to 299 px as TensorFlow 1 did. Published protocol: all training images against as many synthetic
    ones, denormalised and clamped (`Normalisation.to_pixels`). `on_image` counts those of both sides. Raises ConfigError where
    the extra ``fid`` is not installed or `weights` is not the original's file.
    """
    network = load_inception(weights).to(device or real_images.device)
    total = len(real_images) + len(synthetic_images)
    real = _inception_features(network, real_images, lambda done: on_image(done, total))
    synthetic = _inception_features(network, synthetic_images, lambda done: on_image(len(real_images) + done, total))
    return InceptionFid(frechet_distance(real, synthetic), len(real_images), len(synthetic_images))


def load_inception(weights: Path) -> nn.Module:
    """torch-fidelity's Inception-v3, uint8 [N, 3, H, W] -> a tuple with the features [N, 2048], with the weights in a file.

    Raises ConfigError where the extra is not installed or the file is missing or another.
    """
    try:
        import_torchvision()  # the library imports it, for datasets of its own
        from torch_fidelity import FeatureExtractorInceptionV3
    except ImportError as error:
        raise ConfigError("FID needs the extra fid, install it: pip install 'cpsc-tune[fid]'") from error
    # The library unpickles whatever it is given, so it is given what we wrote ourselves.
    safe = io.BytesIO()
    torch.save(_read_weights(weights), safe)
    safe.seek(0)
    network: nn.Module = FeatureExtractorInceptionV3("inception-v3-compat", ["2048"], feature_extractor_weights_path=safe)
    return network


def _read_weights(path: Path) -> dict[str, Any]:
    what_to_do = "download pt_inception-2015-12-05-6726825d.pth of pytorch-fid and give its path"
    try:
        content = path.read_bytes()
    except OSError as error:
        raise ConfigError(f"{path}: the Inception weights of FID cannot be read ({error.strerror}), {what_to_do}") from error
    if (digest := hashlib.sha256(content).hexdigest()) != INCEPTION_SHA256:
        raise ConfigError(f"{path}: not the Inception weights of FID (sha256 {digest[:12]}...), {what_to_do}")
    return torch.load(io.BytesIO(content), map_location="cpu", weights_only=True)


def _inception_features(network: nn.Module, images: Tensor, on_image: Callable[[int], None]) -> Tensor:
    """float32 [N, 2048]."""
    device = next(network.parameters()).device
    found = []
    with torch.inference_mode():
        for number, batch in enumerate(images.split(INCEPTION_BATCH), start=1):
            found.append(network(batch.to(device).expand(-1, 3, -1, -1))[0])
            on_image(min(number * INCEPTION_BATCH, len(images)))
    return torch.cat(found)


def _check_features(real: Tensor, synthetic: Tensor) -> None:
    for side, features in (("real", real), ("synthetic", synthetic)):
        if features.ndim != 2 or len(features) < 2:
            raise DataError(f"Frechet distance: {side} features must be [N, d] with N >= 2, got {list(features.shape)}")
        if not features.isfinite().all():
            raise DataError(f"Frechet distance: {side} features are not all finite, the network that made them has diverged")
    if real.shape[1] != synthetic.shape[1]:
        raise DataError(f"Frechet distance: features must be of one network, got widths {real.shape[1]} and {synthetic.shape[1]}")


def _gaussian(features: Tensor) -> tuple[Tensor, Tensor]:
    """Mean [d] and R [min(N, d), d] with R^T R the covariance, float64."""
    mean = features.mean(dim=0, dtype=torch.float64)
    factor = features.new_empty(0, features.shape[1], dtype=torch.float64)
    for chunk in features.split(CHUNK):
        factor = torch.linalg.qr(torch.cat([factor, chunk.double() - mean]), mode="r").R
    return mean, factor / (len(features) - 1) ** 0.5
