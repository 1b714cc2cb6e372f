"""CIFAR-100 in both layouts; what it shares with CIFAR-10 is tested there."""

import pickle
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from cpsc.data import DatasetConfig, cifar100, load_dataset
from cpsc.data.dataset import Normalisation
from cpsc.errors import DataError
from tests.unit.cpsc.data.files import Touch, cell, write_parquet, write_pickle


def batch(num: int, *, seed: int, **changes: Any) -> dict[bytes, Any]:
    """As the archive's train and test are, whose images have a fine and a coarse label."""
    rng = np.random.default_rng(seed)
    content = {
        b"filenames": [b"a.png"] * num,
        b"batch_label": b"training batch 1 of 1",
        b"fine_labels": [99 - label for label in range(num)],
        b"coarse_labels": [7] * num,
        b"data": rng.integers(0, 256, (num, 3072), dtype=np.uint8),
    }
    return content | {name.encode(): value for name, value in changes.items()}


@pytest.fixture
def archive(tmp_path: Path) -> Path:
    write_pickle(tmp_path / "cifar-100-python" / "train", batch(4, seed=0))
    write_pickle(tmp_path / "cifar-100-python" / "test", batch(2, seed=1))
    return tmp_path


def write_part(folder: Path, part: str, *, names: tuple[str, ...] | None) -> None:
    images = batch(4, seed=0)[b"data"].reshape(-1, 3, 32, 32).transpose(0, 2, 3, 1)
    columns = {"img": [cell(image) for image in images], "fine_label": [99, 98, 97, 96], "coarse_label": [7] * 4}
    write_parquet(folder / f"{part}-00000-of-00001.parquet", columns, names=names, label="fine_label")


def test_the_archive_is_read_with_its_fine_labels(archive: Path) -> None:
    dataset = cifar100.load(archive)
    assert dataset.train.labels.tolist() == [99, 98, 97, 96]
    assert dataset.test.labels.tolist() == [99, 98]
    expected = torch.from_numpy(batch(4, seed=0)[b"data"].reshape(-1, 3, 32, 32))
    assert torch.equal(dataset.train.images, expected)
    assert (dataset.name, dataset.num_classes, dataset.channels, dataset.image_size) == ("cifar100", 100, 3, 32)
    assert cifar100.load(archive / "cifar-100-python").digest == dataset.digest


def test_it_has_its_own_constants_and_the_archives_class_names(archive: Path) -> None:
    dataset = load_dataset(DatasetConfig(name="cifar100", path=str(archive)))
    assert dataset.normalisation == Normalisation(mean=(0.5071, 0.4867, 0.4408), std=(0.2675, 0.2565, 0.2761))
    assert (dataset.crop_padding, dataset.flip) == (4, True)
    assert len(set(dataset.class_names)) == 100
    assert [dataset.class_names[label] for label in (0, 26, 52, 99)] == ["apple", "crab", "oak_tree", "worm"]
    assert list(dataset.class_names) == sorted(dataset.class_names), "the archive numbers them by the alphabet"


@pytest.mark.parametrize("crab", ["crab", "cra", None])
def test_parquet_files_give_the_same_images_also_with_the_hubs_misspelt_class(crab: str | None, archive: Path) -> None:
    from_archive = cifar100.load(archive)
    names = None if crab is None else tuple(crab if name == "crab" else name for name in cifar100.CLASSES)
    write_part(archive, "train", names=names)
    write_part(archive, "test", names=names)
    dataset = cifar100.load(archive)
    assert torch.equal(dataset.train.images, from_archive.train.images)
    assert dataset.test.labels.tolist() == [99, 98, 97, 96]
    assert dataset.class_names == from_archive.class_names


def test_parquet_files_of_other_classes_are_refused(tmp_path: Path) -> None:
    write_part(tmp_path, "train", names=tuple(f"c{index}" for index in range(100)))
    write_part(tmp_path, "test", names=None)
    with pytest.raises(DataError, match=r"its classes are c0, c1, c2, \.\.\., not those of CIFAR-100"):
        cifar100.load(tmp_path)


def test_a_pickle_that_would_run_code_is_refused_and_runs_none(archive: Path, tmp_path: Path) -> None:
    file, marker = archive / "cifar-100-python" / "train", tmp_path / "marker"
    write_pickle(file, batch(4, seed=0, extra=Touch(marker)))
    with pytest.raises(DataError, match=r"cifar-100-python/train: not a CIFAR-100 batch .*refuses __builtin__.getattr"):
        cifar100.load(archive)
    assert not marker.exists()
    pickle.loads(file.read_bytes())  # the file is as dangerous as it claims
    assert marker.exists()


def test_cifar_10s_batches_under_this_name_are_refused(archive: Path) -> None:
    write_pickle(archive / "cifar-100-python" / "test", {b"data": np.zeros((1, 3072), np.uint8), b"labels": [3]})
    with pytest.raises(
        DataError, match=r"cifar-100-python/test: not a CIFAR-100 batch \(corrupt or of another kind: 'fine_labels'\)"
    ):
        cifar100.load(archive)


def test_a_missing_part_is_named(archive: Path) -> None:
    (archive / "cifar-100-python" / "test").unlink()
    with pytest.raises(DataError, match=r"cifar-100-python/test: cannot be read \(No such file or directory\)"):
        cifar100.load(archive)


def test_the_coarse_labels_beside_them_do_not_matter(archive: Path) -> None:
    write_pickle(archive / "cifar-100-python" / "train", batch(4, seed=0, coarse_labels=[0, 1]))
    assert cifar100.load(archive).train.labels.tolist() == [99, 98, 97, 96]


def test_labels_beyond_the_hundred_classes_are_refused(archive: Path) -> None:
    write_pickle(archive / "cifar-100-python" / "test", batch(1, seed=0, fine_labels=[100]))
    with pytest.raises(DataError, match=r"dataset cifar100: test labels run from 100 to 100, outside 0\.\.99"):
        cifar100.load(archive)
