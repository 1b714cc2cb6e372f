import pickle
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from cpsc.data import DatasetConfig, cifar, cifar10, load_dataset
from cpsc.errors import DataError
from tests.unit.cpsc.data import files
from tests.unit.cpsc.data.files import Touch
from tests.unit.cpsc.data.files import write_pickle as dump

BATCHES = ("data_batch_1", "data_batch_2", "data_batch_3", "data_batch_4", "data_batch_5", "test_batch")


def rows(seed: int, num: int = 2) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (num, 3072), dtype=np.uint8)


@pytest.fixture
def archive(tmp_path: Path) -> Path:
    """The original archive's folder with two images a batch."""
    folder = tmp_path / "cifar-10-batches-py"
    folder.mkdir()
    for index, name in enumerate(BATCHES):
        dump(folder / name, {b"batch_label": b"x", b"labels": [index, 9 - index], b"data": rows(index), b"filenames": [b"a", b"b"]})
    return tmp_path


@pytest.fixture
def write_parquet(tmp_path: Path) -> Callable[..., None]:
    def write(part: str, *, classes: tuple[str, ...] = cifar10.CLASSES, labels: tuple[int, ...] = (3, 9)) -> None:
        cells = [files.cell(row.reshape(3, 32, 32).transpose(1, 2, 0)) for row in rows(0, len(labels))]
        path = tmp_path / f"{part}-00000-of-00001.parquet"
        files.write_parquet(path, {"img": cells, "label": list(labels)}, names=classes)

    return write


def test_the_original_archive_is_read_with_its_batches_in_order(archive: Path) -> None:
    dataset = cifar10.load(archive)
    assert dataset.train.labels.tolist() == [0, 9, 1, 8, 2, 7, 3, 6, 4, 5]
    assert dataset.test.labels.tolist() == [5, 4]
    expected = np.concatenate([rows(index) for index in range(5)]).reshape(-1, 3, 32, 32)
    assert torch.equal(dataset.train.images, torch.from_numpy(expected))
    assert (dataset.num_classes, dataset.channels, dataset.image_size) == (10, 3, 32)


def test_the_folder_of_the_batches_itself_may_be_given(archive: Path) -> None:
    assert cifar10.load(archive / "cifar-10-batches-py").digest == cifar10.load(archive).digest


def test_parquet_files_and_the_archive_give_the_same_images(write_parquet, archive: Path) -> None:
    from_archive = cifar10.load(archive)
    write_parquet("train")
    write_parquet("test")
    dataset = cifar10.load(archive)
    assert dataset.train.labels.tolist() == dataset.test.labels.tolist() == [3, 9]
    assert torch.equal(dataset.train.images, from_archive.train.images[:2])


def test_parquet_files_are_read_from_a_uri(write_parquet, tmp_path: Path) -> None:
    write_parquet("train")
    write_parquet("test")
    by_uri = load_dataset(DatasetConfig(name="cifar10", path=f"file://{tmp_path}"))
    assert by_uri.digest == cifar10.load(tmp_path).digest
    assert by_uri.class_names == cifar10.CLASSES


def test_images_of_another_size_are_refused(tmp_path: Path) -> None:
    for part in ("train", "test"):
        files.write_parquet(tmp_path / f"{part}-0.parquet", {"img": [files.cell(files.pixels(1)[0])], "label": [1]})
    with pytest.raises(DataError, match=r"train-0.parquet: row 0: is 4x4, must be 32x32"):
        cifar10.load(tmp_path)


def test_a_teachers_own_normalisation_may_be_given(archive: Path) -> None:
    config = DatasetConfig(name="cifar10", path=str(archive), mean=(0.5, 0.5, 0.5), std=(0.25, 0.25, 0.25))
    assert load_dataset(config).normalisation.std == (0.25, 0.25, 0.25)


def test_cifar_images_are_normalised_and_augmented_as_the_published_teachers_were(archive: Path) -> None:
    dataset = cifar10.load(archive)
    assert dataset.normalisation.mean == (0.4914, 0.4822, 0.4465)
    assert dataset.normalisation.std == (0.2023, 0.1994, 0.2010)
    assert (dataset.crop_padding, dataset.flip) == (4, True)
    assert dataset.class_names[0] == "airplane"
    assert dataset.class_names[9] == "truck"


def test_a_pickle_that_would_run_code_is_refused_and_runs_none(archive: Path, tmp_path: Path) -> None:
    file, marker = archive / "cifar-10-batches-py" / "data_batch_2", tmp_path / "marker"
    dump(file, {b"data": rows(1), b"labels": [1, 2], b"extra": Touch(marker)})
    with pytest.raises(DataError, match=r"data_batch_2: not a CIFAR-10 batch .*refuses __builtin__.getattr"):
        cifar10.load(archive)
    assert not marker.exists()
    pickle.loads(file.read_bytes())  # the file is as dangerous as it claims
    assert marker.exists()


@pytest.mark.parametrize("name", [("builtins", "eval"), ("os", "system"), ("numpy", "load"), ("numpy.core.multiarray", "scalar")])
def test_only_what_arrays_are_made_of_may_be_unpickled(name: tuple[str, str], archive: Path) -> None:
    module, attribute = name
    (archive / "cifar-10-batches-py" / "test_batch").write_bytes(f"c{module}\n{attribute}\n.".encode())
    with pytest.raises(DataError, match=f"test_batch: .*refuses {module}.{attribute}"):
        cifar10.load(archive)


def test_arrays_pickled_by_numpy_1_are_read(archive: Path) -> None:
    file = archive / "cifar-10-batches-py" / "test_batch"
    content = file.read_bytes().replace(b"numpy._core.multiarray", b"numpy.core.multiarray")
    assert content != file.read_bytes()
    file.write_bytes(content)
    assert cifar10.load(archive).test.labels.tolist() == [5, 4]


@pytest.mark.parametrize(
    "content",
    [
        {b"labels": [1, 2]},
        {b"data": np.zeros((2, 3072), np.uint8)},
        {b"data": np.zeros((2, 100), np.uint8), b"labels": [1, 2]},
        {b"data": np.zeros((2, 3072), np.uint8), b"labels": [1, None]},
        {b"data": np.zeros((2, 3072), np.uint8), b"labels": 3},
        [1, 2, 3],
    ],
    ids=["no data", "no labels", "other width", "no number", "no list", "no dict"],
)
def test_a_batch_of_another_shape_is_refused_by_its_file(content: Any, archive: Path) -> None:
    dump(archive / "cifar-10-batches-py" / "data_batch_4", content)
    with pytest.raises(DataError, match="data_batch_4: not a CIFAR-10 batch"):
        cifar10.load(archive)


@pytest.mark.parametrize("share", [0.0, 0.02, 0.5, 0.99])
def test_a_truncated_batch_is_refused(share: float, archive: Path) -> None:
    file = archive / "cifar-10-batches-py" / "data_batch_1"
    whole = file.read_bytes()
    file.write_bytes(whole[: int(share * len(whole))])
    with pytest.raises(DataError, match="data_batch_1: not a CIFAR-10 batch"):
        cifar10.load(archive)


def test_a_missing_batch_is_named(archive: Path) -> None:
    (archive / "cifar-10-batches-py" / "data_batch_3").unlink()
    with pytest.raises(DataError, match=r"data_batch_3: cannot be read \(No such file or directory\)"):
        cifar10.load(archive)


def test_a_folder_without_the_dataset_is_refused(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"holds neither train-\*.parquet nor cifar-10-batches-py/"):
        cifar10.load(tmp_path)
    with pytest.raises(DataError, match="absent is not a folder"):
        cifar10.load(tmp_path / "absent")


def test_parquet_files_of_one_part_only_are_refused(write_parquet, tmp_path: Path) -> None:
    write_parquet("train")
    with pytest.raises(DataError, match=r"holds no test-\*.parquet"):
        cifar10.load(tmp_path)


def test_parquet_files_of_other_classes_are_refused(write_parquet, tmp_path: Path) -> None:
    write_parquet("train", classes=("apple", "aquarium_fish", "baby", "bear"), labels=(0, 3))
    write_parquet("test")
    with pytest.raises(DataError, match=r"its classes are apple, aquarium_fish, baby, \.\.\., not those of CIFAR-10"):
        cifar10.load(tmp_path)


def test_labels_beyond_the_ten_classes_are_refused(write_parquet, tmp_path: Path) -> None:
    write_parquet("train", labels=(3, 10))
    write_parquet("test")
    with pytest.raises(DataError, match=r"of-00001.parquet: row 1: label 10 is not in 0\.\.9, the classes that the schema names"):
        cifar10.load(tmp_path)


def test_a_batch_with_fewer_labels_than_images_is_refused(archive: Path) -> None:
    dump(archive / "cifar-10-batches-py" / "data_batch_4", {b"data": rows(0), b"labels": [1]})
    with pytest.raises(DataError, match="data_batch_4"):
        cifar10.load(archive)


def test_pixels_beyond_a_byte_are_refused(archive: Path) -> None:
    dump(archive / "cifar-10-batches-py" / "data_batch_4", {b"data": [[300] * 3072], b"labels": [1]})
    with pytest.raises(DataError, match="data_batch_4: not a CIFAR-10 batch"):
        cifar10.load(archive)


@pytest.mark.parametrize("name", ["data_batch_4", "test_batch"])
def test_a_batch_that_is_a_copy_of_another_is_refused(name: str, archive: Path) -> None:
    folder = archive / "cifar-10-batches-py"
    (folder / name).write_bytes((folder / "data_batch_2").read_bytes())
    with pytest.raises(DataError, match=f"{folder / name}: holds the same images as data_batch_2, unpack the archive again"):
        cifar10.load(archive)


@pytest.mark.parametrize(
    "data", [rows(1) / 255, rows(1).astype(np.int64) + 256, rows(1).astype(np.float32)], ids=["unit", "wide", "float"]
)
def test_pixels_that_a_byte_would_cut_off_are_refused(data: np.ndarray, archive: Path) -> None:
    dump(archive / "cifar-10-batches-py" / "data_batch_4", {b"data": data, b"labels": [1, 2]})
    with pytest.raises(DataError, match=rf"data_batch_4: .*pixels must be whole numbers in 0\.\.255, got {data.dtype}"):
        cifar10.load(archive)


@pytest.mark.parametrize("labels", [[1.5, 2], ["1", "2"], [b"1", b"2"], [-1, 2]], ids=str)
def test_labels_of_a_batch_that_are_no_class_numbers_are_refused(labels: list[Any], archive: Path) -> None:
    dump(archive / "cifar-10-batches-py" / "data_batch_4", {b"data": rows(1), b"labels": labels})
    with pytest.raises(DataError, match=r"data_batch_4: .*a label must be a class number, got"):
        cifar10.load(archive)


def test_how_many_images_are_missing_is_told_and_too_many_are_refused(archive: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    said: list[str] = []
    cifar10.load(archive, say=said.append)
    assert said == [
        "dataset cifar10: the train part holds 10 of the 50,000 published images",
        "dataset cifar10: the test part holds 2 of the 10,000 published images",
    ]
    monkeypatch.setitem(cifar.NUM_IMAGES, "train", 9)
    with pytest.raises(DataError, match="the train part holds 10 images, but 9 are published: remove the duplicates"):
        cifar10.load(archive)


def test_an_lfs_pointer_instead_of_a_batch_is_named(archive: Path) -> None:
    (archive / "cifar-10-batches-py" / "data_batch_4").write_bytes(b"version https://git-lfs.github.com/spec/v1\noid sha256:0\n")
    with pytest.raises(DataError, match=r"data_batch_4: not a CIFAR-10 batch \(it is a Git LFS pointer, fetch the file"):
        cifar10.load(archive)
