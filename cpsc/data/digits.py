"""The 1,797 real 8x8 digits that come with scikit-learn: nothing to download, yet every result on them is real."""

import gzip
import hashlib
from importlib.metadata import PackageNotFoundError, distribution

import numpy as np
import torch
from torch.nn import functional as F

from cpsc.data.dataset import Dataset, Normalisation, Split
from cpsc.errors import DataError

IMAGE_SIZE = 16
TEST_IMAGES_PER_CLASS = 50
SOURCE = "sklearn/datasets/data/digits.csv.gz"
"""One line per image: its 64 pixels from 0 to 16, and its label."""
CHECKSUM = "b5fe7178cb7bdb434070de2ef631f7d58dfceeeacab204f321e0a5d98f6f94f3"
"""SHA-256 of the source pixels and labels, training part first: the split behind all published results."""


def load() -> Dataset:
    """Load the digits, upscaled to 16x16, one channel; test part: 50 of each class, training part: the other 1,297.

    Every third image of a class goes to the test part until it has 50, so both parts contain every writer.
    """
    pixels, labels = _pixels_and_labels()
    is_test = np.zeros(len(labels), dtype=bool)
    for label in range(10):
        is_test[np.flatnonzero(labels == label)[::3][:TEST_IMAGES_PER_CLASS]] = True
    digest = hashlib.sha256()
    for part in (~is_test, is_test):
        digest.update(pixels[part].tobytes() + labels[part].tobytes())
    if digest.hexdigest() != CHECKSUM:
        raise DataError(
            f"digits: this scikit-learn has other images than expected (sha256 {digest.hexdigest()[:12]}...), use another version"
        )
    train = _to_split(pixels[~is_test], labels[~is_test])
    mean, std = train.images.float().div(255).mean().item(), train.images.float().div(255).std().item()
    return Dataset(
        name="digits",
        train=train,
        test=_to_split(pixels[is_test], labels[is_test]),
        class_names=tuple(str(label) for label in range(10)),
        normalisation=Normalisation(mean=(round(mean, 4),), std=(round(std, 4),)),
        crop_padding=2,
        flip=False,  # a mirrored digit means something else
    )


def _pixels_and_labels() -> tuple[np.ndarray, np.ndarray]:
    """uint8 [N, 8, 8] and int64 [N], from the file of the installed scikit-learn; DataError if it is not there.

    `load_digits` reads the same file, but each process of a sweep would import scikit-learn and SciPy for it: 1.3 s of CPU time.
    """
    try:
        with gzip.open(str(distribution("scikit-learn").locate_file(SOURCE))) as file:
            rows = np.loadtxt(file, delimiter=",", dtype=np.uint8)
    except (PackageNotFoundError, OSError) as error:
        raise DataError(f"digits: the installed scikit-learn has no {SOURCE} ({error}); install scikit-learn again") from error
    return rows[:, :-1].reshape(-1, 8, 8), rows[:, -1].astype(np.int64)


def _to_split(pixels: np.ndarray, labels: np.ndarray) -> Split:
    images = torch.from_numpy(pixels)[:, None].float() * (255.0 / 16.0)
    images = F.interpolate(images, size=(IMAGE_SIZE, IMAGE_SIZE), mode="bilinear", align_corners=False)
    return Split(images.round().to(torch.uint8), torch.from_numpy(labels))
