from pathlib import Path

import numpy as np
import pytest
import sklearn.datasets
import torch

from cpsc.data import digits
from cpsc.data.dataset import Dataset
from cpsc.errors import DataError


@pytest.fixture(scope="module")
def dataset() -> Dataset:
    return digits.load()


def test_the_split_has_1297_training_and_500_test_images_with_50_of_each_class(dataset: Dataset) -> None:
    assert (len(dataset.train), len(dataset.test)) == (1297, 500)
    assert dataset.test.labels.bincount().tolist() == [50] * 10
    assert (dataset.train.labels.bincount() + 50).tolist() == [178, 182, 177, 183, 181, 182, 181, 179, 174, 180]


def test_images_are_16_by_16_pixels_of_one_byte_channel_that_use_the_whole_range(dataset: Dataset) -> None:
    for split in (dataset.train, dataset.test):
        assert split.images.shape == (len(split), 1, 16, 16)
        assert split.images.dtype == torch.uint8
        assert (int(split.images.min()), int(split.images.max())) == (0, 255)


def test_loading_twice_gives_the_same_bytes(dataset: Dataset) -> None:
    assert digits.load().digest == dataset.digest


def test_every_third_image_of_a_class_is_a_test_image_until_there_are_50(dataset: Dataset) -> None:
    source = sklearn.datasets.load_digits()
    of_class = source.images[source.target == 3]
    ours = dataset.test.images[dataset.test.labels == 3]
    # Means survive the upscaling up to rounding and identify an image well enough.
    expected = [image.mean() * 255 / 16 for image in of_class[::3][:50]]
    assert ours.float().mean(dim=(1, 2, 3)).tolist() == pytest.approx(expected, abs=0.5)


def test_the_normalisation_whitens_the_training_part(dataset: Dataset) -> None:
    normalised = dataset.normalisation.normalise(dataset.train.images)
    assert normalised.mean().item() == pytest.approx(0.0, abs=1e-3)
    assert normalised.std().item() == pytest.approx(1.0, abs=1e-3)


def test_digits_may_be_shifted_but_not_mirrored(dataset: Dataset) -> None:
    assert dataset.crop_padding == 2
    assert not dataset.flip
    assert dataset.class_names == tuple("0123456789")


@pytest.mark.parametrize("changed", ["pixel", "label"])
def test_other_source_images_are_refused_by_the_checksum(changed: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    source = sklearn.datasets.load_digits()
    rows = np.column_stack([source.data, source.target]).astype(int)
    if changed == "pixel":
        rows[5, 18] = 16 - rows[5, 18]
    else:
        rows[[0, 1], -1] = rows[[1, 0], -1]
    np.savetxt(tmp_path / "digits.csv.gz", rows, fmt="%d", delimiter=",")
    monkeypatch.setattr(digits, "SOURCE", str(tmp_path / "digits.csv.gz"))
    with pytest.raises(DataError, match="this scikit-learn has other images"):
        digits.load()


def test_a_scikit_learn_without_them_is_told_as_one(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(digits, "SOURCE", "sklearn/datasets/data/numerals.csv.gz")
    with pytest.raises(DataError, match=r"digits: the installed scikit-learn has no sklearn/datasets/data/numerals\.csv\.gz"):
        digits.load()
