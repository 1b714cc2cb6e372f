"""Frechet distance of synthetic images from real ones: the distance of Gaussians fitted to two sets of features.

Only with the features of the original FID's Inception network is it called FID; with the teacher's features it is another distance.
"""

import hashlib
import io
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from cpsc.errors import ConfigError, DataError
from cpsc.torchvision_cure import import_torchvision

INCEPTION_SHA256 = "6726825d0af5f729cebd5821db510b11b1cfad8faad88a03f1befd49fb9129b2"
"""SHA-256 of pt_inception-2015-12-05-6726825d.pth, the TensorFlow weights of Heusel et al. 2017 that every published FID uses."""
INCEPTION_BATCH = 64
COMPARABLE_IMAGES = 10_000
"""With fewer images on either side the 2048-dimensional covariances are too noisy to compare FIDs."""
CHUNK = 8192
"""Rows converted to float64 at a time: the features of 100,000 images at once would take 1.6 GB."""


class InceptionFid(NamedTuple):
    """An FID and the number of images on each side."""

    distance: float
    num_real: int
    num_synthetic: int

    @property
    def is_comparable(self) -> bool:
        """Whether both sides have enough images for a comparison with published figures."""
        return min(self.num_real, self.num_synthetic) >= COMPARABLE_IMAGES


def frechet_distance(real_features: Tensor, synthetic_features: Tensor) -> float:
    """|m_r - m_s|^2 + trace(S_r + S_s - 2 (S_r S_s)^(1/2)) of features [N, d] and [M, d], in float64.

    Heusel et al. 2017 (arXiv:1706.08500), eq. 6; covariances are unbiased. No matrix root is taken: with S = R^T R, the
    eigenvalues of S_r S_s are the squared singular values of R_r R_s^T, so their sum is the root's trace (Mathiasen &
    Hvilshoj 2020, arXiv:2009.14075). This is always real, and exact for singular covariances, which need no diagonal offset.
    R comes from a QR decomposition of the centred features, which avoids the loss of precision of a squared matrix.
    Raises DataError for fewer than two rows, features of different widths, or values that are not finite.
    """
    _check_features(real_features, synthetic_features)
    real_mean, real_factor = _gaussian(real_features)
    synthetic_mean, synthetic_factor = _gaussian(synthetic_features)
    root_trace = torch.linalg.svdvals(real_factor @ synthetic_factor.T).sum()
    means = (real_mean - synthetic_mean).square().sum()
    distance = means + real_factor.square().sum() + synthetic_factor.square().sum() - 2.0 * root_trace
    return max(distance.item(), 0.0)  # for equal sets rounding may give a negative value


def inception_fid(
    real_images: Tensor,
    synthetic_images: Tensor,
    weights: Path,
    *,
    device: torch.device | None = None,
    on_image: Callable[[int, int], None] = lambda done, total: None,
) -> InceptionFid:
    """FID of uint8 images [N, K, H, W], K 1 or 3, with the 2048 features of the original Inception-v3. Nothing is downloaded.

    The library enlarges the images to 299 px as TensorFlow 1 did. Published protocol: all training images against as many
    synthetic ones, denormalised and clamped (`Normalisation.to_pixels`). `on_image(done, total)` counts the images of both sides.
    Raises ConfigError if the extra ``fid`` is not installed or `weights` is not the original file.
    """
    network = load_inception(weights).to(device or real_images.device)
    total = len(real_images) + len(synthetic_images)
    real = _inception_features(network, real_images, lambda done: on_image(done, total))
    synthetic = _inception_features(network, synthetic_images, lambda done: on_image(len(real_images) + done, total))
    return InceptionFid(frechet_distance(real, synthetic), len(real_images), len(synthetic_images))


def load_inception(weights: Path) -> nn.Module:
    """torch-fidelity's Inception-v3 with the weights in a file; uint8 [N, 3, H, W] -> a tuple with the features [N, 2048].

    Raises ConfigError if the extra ``fid`` is not installed, or if the file is missing or not the original one.
    """
    try:
        import_torchvision()  # torch-fidelity imports it for its own datasets
        from torch_fidelity import FeatureExtractorInceptionV3
    except ImportError as error:
        raise ConfigError("FID needs the extra fid, install it: pip install 'cpsc-tune[fid]'") from error
    # The library unpickles any file that it is given, so we give it one that we wrote ourselves.
    safe = io.BytesIO()
    torch.save(_read_weights(weights), safe)
    safe.seek(0)
    network: nn.Module = FeatureExtractorInceptionV3("inception-v3-compat", ["2048"], feature_extractor_weights_path=safe)
    return network


def _read_weights(path: Path) -> dict[str, Any]:
    what_to_do = "download pt_inception-2015-12-05-6726825d.pth from pytorch-fid and give its path"
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
            raise DataError(f"Frechet distance: {side} features must be finite, but the network that made them has diverged")
    if real.shape[1] != synthetic.shape[1]:
        raise DataError(
            f"Frechet distance: features must come from one network, got widths {real.shape[1]} and {synthetic.shape[1]}"
        )


def _gaussian(features: Tensor) -> tuple[Tensor, Tensor]:
    """Mean [d] and R [min(N, d), d], where R^T R is the covariance; float64."""
    mean = features.mean(dim=0, dtype=torch.float64)
    factor = features.new_empty(0, features.shape[1], dtype=torch.float64)
    for chunk in features.split(CHUNK):
        factor = torch.linalg.qr(torch.cat([factor, chunk.double() - mean]), mode="r").R
    return mean, factor / (len(features) - 1) ** 0.5
