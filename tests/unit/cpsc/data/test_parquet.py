"""Parquet files of images: columns, rows, class names, folders, URIs, and whole datasets of them."""

from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
from pyarrow import fs

from cpsc.data import DatasetConfig, load_dataset, parquet
from cpsc.data.dataset import Normalisation, Split
from cpsc.errors import ConfigError, DataError
from tests.unit.cpsc.data.files import cell, encoded, pixels, write_parquet

NAMES = ("cat", "dog", "eel")


def write(path: Path, columns: dict[str, list[Any]], *, names: tuple[str, ...] | None = NAMES, label: str = "label") -> Path:
    return write_parquet(path, columns, names=names, label=label)


def read(*files: Path, **options: Any) -> tuple[Split, tuple[str, ...]]:
    return parquet.read_split([parquet.ParquetFile(fs.LocalFileSystem(), str(file)) for file in files], **options)


def found(folder: Path, part: str) -> list[str]:
    return [str(file) for file in parquet.ParquetFolder.at(folder).files(part)]


def test_rows_are_decoded_in_order_with_their_labels_and_class_names(tmp_path: Path) -> None:
    images = pixels(3)
    file = write(tmp_path / "train-0.parquet", {"img": [cell(image) for image in images], "label": [2, 0, 1]})
    split, names = read(file)
    assert torch.equal(split.images, torch.from_numpy(images).permute(0, 3, 1, 2))
    assert split.images.is_contiguous()
    assert (split.labels.tolist(), split.labels.dtype) == ([2, 0, 1], torch.int64)
    assert names == NAMES


def test_several_files_are_joined_in_order(tmp_path: Path) -> None:
    images = pixels(5)
    for index, rows in enumerate((images[:2], images[2:])):
        write(tmp_path / f"train-{index}.parquet", {"img": [cell(image) for image in rows], "label": [index] * len(rows)})
    split, _ = parquet.read_split(parquet.ParquetFolder.at(tmp_path).files("train"))
    assert torch.equal(split.images, torch.from_numpy(images).permute(0, 3, 1, 2))
    assert split.labels.tolist() == [0, 0, 1, 1, 1]


@pytest.mark.parametrize(("image_column", "label_column"), [("image", "label"), ("img", "fine_label"), ("image", "fine_label")])
def test_the_usual_column_names_are_understood(image_column: str, label_column: str, tmp_path: Path) -> None:
    columns = {image_column: [cell(pixels(1)[0])], label_column: [1], "coarse_label": [9]}
    split, names = read(write(tmp_path / "train-0.parquet", columns, label=label_column))
    assert split.labels.tolist() == [1]
    assert names == NAMES


@pytest.mark.parametrize(
    "metadata", [None, {}, {"huggingface": "no json"}, {"huggingface": "[1]"}, {"huggingface": '{"info": null}'}]
)
def test_a_schema_without_class_names_gives_none(metadata: dict[str, str] | None, tmp_path: Path) -> None:
    table = pa.table({"img": [cell(pixels(1)[0])], "label": [1]}).replace_schema_metadata(metadata)
    pq.write_table(table, tmp_path / "train-0.parquet")
    assert read(tmp_path / "train-0.parquet")[1] == ()


def test_a_grey_image_becomes_three_equal_channels(tmp_path: Path) -> None:
    grey = pixels(1)[0, :, :, 0]
    split, _ = read(write(tmp_path / "train-0.parquet", {"img": [cell(grey)], "label": [0]}))
    assert torch.equal(split.images[0], torch.from_numpy(grey).expand(3, 4, 4))


def test_files_are_found_in_the_folder_or_its_data_folder_in_order(tmp_path: Path) -> None:
    assert found(tmp_path, "train") == []
    columns = {"img": [cell(pixels(1)[0])], "label": [0]}
    nested = [write(tmp_path / "data" / f"train-0000{i}-of-00002.parquet", columns) for i in (1, 0)]
    write(tmp_path / "data" / "test-0.parquet", columns)
    assert found(tmp_path, "train") == sorted(map(str, nested))


@pytest.mark.parametrize("content", [b"", b"PAR1", b"not parquet at all, but long enough to be looked at", None])
def test_a_corrupt_file_is_refused_in_one_line(content: bytes | None, tmp_path: Path) -> None:
    file = write(tmp_path / "train-0.parquet", {"img": [cell(pixels(1)[0])], "label": [0]})
    whole = file.read_bytes()
    file.write_bytes(whole[: len(whole) // 2] if content is None else content)
    with pytest.raises(DataError, match=r"train-0.parquet: not a readable Parquet file") as caught:
        read(file)
    assert "\n" not in str(caught.value)


def test_a_missing_file_is_refused(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"gone.parquet: not a readable Parquet file"):
        read(tmp_path / "gone.parquet")


@pytest.mark.parametrize(
    ("columns", "needed"), [({"label": [0]}, "img or image"), ({"img": ["x"]}, "label or fine_label or labels or target")]
)
def test_a_missing_column_is_named_with_those_there_are(columns: dict[str, list[Any]], needed: str, tmp_path: Path) -> None:
    file = write(tmp_path / "train-0.parquet", columns)
    with pytest.raises(DataError, match=f"train-0.parquet: needs a column {needed}, but has {next(iter(columns))}"):
        read(file)


@pytest.mark.parametrize(
    ("content", "rule"),
    [
        (None, "holds no image in a field 'bytes'"),
        ({"bytes": None, "path": "a.png"}, "holds no image in a field 'bytes'"),
        ({"path": "a.png"}, "holds no image in a field 'bytes'"),
        ({"bytes": b"", "path": None}, r": not a readable image \(it is empty"),
        ({"bytes": b"no image", "path": None}, r": not a readable image \(PNG or JPEG"),
    ],
    ids=["null", "null bytes", "no bytes field", "empty bytes", "text"],
)
def test_a_row_without_an_image_is_refused_by_its_number(content: dict[str, Any] | None, rule: str, tmp_path: Path) -> None:
    rows = [content] if content is not None and "bytes" not in content else [cell(pixels(1)[0]), content]
    file = write(tmp_path / "train-0.parquet", {"img": rows, "label": [0] * len(rows)})
    with pytest.raises(DataError, match=rf"train-0.parquet: row {len(rows) - 1}:? ?{rule}"):
        read(file)


def test_a_truncated_image_is_refused_by_its_row(tmp_path: Path) -> None:
    whole = encoded(pixels(1, size=32)[0])
    file = write(tmp_path / "train-0.parquet", {"img": [{"bytes": whole[: len(whole) // 2]}], "label": [0]})
    with pytest.raises(DataError, match="row 0: not a readable image"):
        read(file)


def test_a_postscript_image_is_refused_for_it_would_start_a_program(tmp_path: Path) -> None:
    file = write(tmp_path / "train-0.parquet", {"img": [{"bytes": encoded(pixels(1)[0], "EPS")}], "label": [0]})
    with pytest.raises(DataError, match="row 0: not a readable image"):
        read(file)


def test_a_column_of_image_files_without_a_field_is_read_too(tmp_path: Path) -> None:
    file = write(tmp_path / "train-0.parquet", {"img": [cell(pixels(1)[0])["bytes"]], "label": [0]})
    assert torch.equal(read(file)[0].images, torch.from_numpy(pixels(1)).permute(0, 3, 1, 2))


def test_images_of_several_sizes_are_refused(tmp_path: Path) -> None:
    cells = [cell(pixels(1, size=4)[0]), cell(pixels(1, size=6)[0])]
    file = write(tmp_path / "train-0.parquet", {"img": cells, "label": [0, 1]})
    with pytest.raises(
        DataError, match=r"row 1: is 6x6, the first image is 4x4: all must have the same size, or set dataset.image_size"
    ):
        read(file)


def test_images_of_another_size_than_the_dataset_has_are_refused(tmp_path: Path) -> None:
    file = write(tmp_path / "train-0.parquet", {"img": [cell(image) for image in pixels(2)], "label": [0, 1]})
    with pytest.raises(DataError, match=r"row 0: is 4x4, must be 32x32$"):
        read(file, exactly=32)


def test_decoding_is_watched_to_its_end(tmp_path: Path) -> None:
    file = write(tmp_path / "train-0.parquet", {"img": [cell(image) for image in pixels(150)], "label": [0] * 150})
    seen: list[tuple[int, int]] = []
    split, _ = read(file, on_file=lambda done, total: seen.append((done, total)))
    assert seen == sorted(seen)
    assert len(seen) > 1
    assert seen[-1] == (150, 150)
    assert torch.equal(split.images, torch.from_numpy(pixels(150)).permute(0, 3, 1, 2))


def test_a_row_without_a_label_is_refused(tmp_path: Path) -> None:
    file = write(tmp_path / "train-0.parquet", {"img": [cell(image) for image in pixels(2)], "label": [0, None]})
    with pytest.raises(DataError, match=r"train-0.parquet: row 1: has no label"):
        read(file)


def test_a_file_without_rows_is_refused(tmp_path: Path) -> None:
    table = pa.table({"img": pa.array([], pa.struct([("bytes", pa.binary())])), "label": pa.array([], pa.int64())})
    pq.write_table(table, tmp_path / "train-0.parquet")
    with pytest.raises(DataError, match=r"train-0.parquet: holds no rows"):
        read(tmp_path / "train-0.parquet")


def test_an_image_with_a_broken_chunk_is_refused_by_its_row(tmp_path: Path) -> None:
    whole = encoded(pixels(1)[0])
    start = whole.index(b"IDAT") - 4
    length = int.from_bytes(whole[start : start + 4], "big") - 20
    broken = whole[:start] + length.to_bytes(4, "big") + whole[start + 4 :]
    file = write(tmp_path / "train-0.parquet", {"img": [{"bytes": broken}], "label": [0]})
    with pytest.raises(DataError, match="row 0: not a readable image"):
        read(file)


def test_labels_that_are_no_numbers_are_refused(tmp_path: Path) -> None:
    file = write(tmp_path / "train-0.parquet", {"img": [cell(pixels(1)[0])], "label": ["cat"]})
    with pytest.raises(DataError, match=r"row 0: a label must be a class number, got 'cat'"):
        read(file)


@pytest.mark.parametrize("label", [-1, 2**31])
def test_labels_that_no_class_has_are_refused(label: int, tmp_path: Path) -> None:
    file = write(tmp_path / "train-0.parquet", {"img": [cell(pixels(1)[0])], "label": [label]})
    with pytest.raises(DataError, match=f"row 0: a label must be a class number, got '{label}'"):
        read(file)


# Folders and URIs


def test_the_files_of_a_part_may_have_a_folder_of_their_own_or_no_number(tmp_path: Path) -> None:
    columns = {"img": [cell(pixels(1)[0])], "label": [0]}
    numbered = [write(tmp_path / "train" / f"000{i}.parquet", columns) for i in (1, 0)]
    single = write(tmp_path / "test.parquet", columns)
    write(tmp_path / "training-0.parquet", columns)
    assert found(tmp_path, "train") == sorted(map(str, numbered))
    assert found(tmp_path, "test") == [str(single)]


def test_a_storage_that_arrow_does_not_know_is_refused_without_its_credentials() -> None:
    with pytest.raises(
        DataError, match=r"dataset.path: 'nowhere://\*\*\*@at/all\?secret_key=\*\*\*' is not a storage known to Arrow"
    ) as refused:
        parquet.ParquetFolder.at("nowhere://name:hidden@at/all?secret_key=hidden")
    assert "hidden" not in str(refused.value)


def test_a_remote_file_is_called_by_its_uri_without_credentials() -> None:
    s3 = parquet.ParquetFolder.at("s3://name:hidden@bucket/folder?endpoint_override=127.0.0.1:1&region=x")
    assert (str(s3), s3.is_local) == ("s3://bucket/folder", False)
    assert str(parquet.ParquetFile(s3.filesystem, "bucket/folder/train-0.parquet")) == "s3://bucket/folder/train-0.parquet"


# Whole datasets


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Six training and three test images of three classes, 8 px."""
    images = pixels(9, size=8, seed=4)
    write(tmp_path / "train-0.parquet", {"img": [cell(image) for image in images[:6]], "label": [0, 1, 2, 0, 1, 2]})
    write(tmp_path / "test-0.parquet", {"img": [cell(image) for image in images[6:]], "label": [2, 1, 0]})
    return tmp_path


def test_any_parquet_folder_is_a_dataset_with_the_classes_of_its_schema(folder: Path) -> None:
    dataset = load_dataset(DatasetConfig(name="parquet", path=str(folder)))
    images = torch.from_numpy(pixels(9, size=8, seed=4)).permute(0, 3, 1, 2)
    assert torch.equal(dataset.train.images, images[:6])
    assert torch.equal(dataset.test.images, images[6:])
    assert dataset.test.labels.tolist() == [2, 1, 0]
    assert (dataset.name, dataset.class_names, dataset.crop_padding, dataset.flip) == ("parquet", NAMES, 1, True)


def test_the_normalisation_is_measured_on_the_training_part_and_said(folder: Path) -> None:
    said: list[str] = []
    dataset = load_dataset(DatasetConfig(name="parquet", path=str(folder)), say=said.append)
    train = dataset.train.images.double() / 255
    assert dataset.normalisation.mean == pytest.approx(train.mean(dim=(0, 2, 3)).tolist(), abs=1e-4)
    assert dataset.normalisation.std == pytest.approx(train.std(dim=(0, 2, 3), correction=0).tolist(), abs=1e-4)
    assert len(said) == 1
    assert str(list(dataset.normalisation.mean)) in said[0]
    assert said[0].endswith("measured on its 6 training images")


def test_a_normalisation_that_is_given_is_taken_and_nothing_said(folder: Path) -> None:
    said: list[str] = []
    config = DatasetConfig(name="parquet", path=str(folder), mean=(0.5, 0.4, 0.3), std=(0.2, 0.1, 0.3), flip=False)
    dataset = load_dataset(config, say=said.append)
    assert dataset.normalisation == Normalisation(mean=(0.5, 0.4, 0.3), std=(0.2, 0.1, 0.3))
    assert not dataset.flip
    assert said == []


def test_images_are_resized_where_the_config_says_to_what(folder: Path) -> None:
    assert load_dataset(DatasetConfig(name="parquet", path=str(folder), image_size=4)).image_size == 4


def test_a_uri_gives_the_same_dataset_as_its_folder(folder: Path) -> None:
    by_path = load_dataset(DatasetConfig(name="parquet", path=str(folder)))
    by_uri = load_dataset(DatasetConfig(name="parquet", path=f"file://{folder}/"))
    assert by_uri.digest == by_path.digest
    assert (by_uri.class_names, by_uri.normalisation) == (by_path.class_names, by_path.normalisation)


def test_a_relative_path_is_read_too(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(folder.parent)
    assert len(load_dataset(DatasetConfig(name="parquet", path=folder.name)).train) == 6


def test_an_error_in_a_uri_names_the_file(folder: Path) -> None:
    (folder / "test-0.parquet").write_bytes(b"PAR1")
    with pytest.raises(DataError, match=rf"^{folder}/test-0.parquet: not a readable Parquet file"):
        load_dataset(DatasetConfig(name="parquet", path=f"file://{folder}"))


def test_classes_without_names_are_called_by_number(tmp_path: Path) -> None:
    images = [cell(image) for image in pixels(2, size=8)]
    write(tmp_path / "train-0.parquet", {"image": images, "label": [0, 3]}, names=None)
    write(tmp_path / "validation-0.parquet", {"image": images, "label": [1, 2]}, names=None)
    dataset = load_dataset(DatasetConfig(name="parquet", path=str(tmp_path)))
    assert dataset.class_names == ("0", "1", "2", "3")
    assert dataset.test.labels.tolist() == [1, 2]


def test_a_damaged_label_does_not_make_a_billion_classes(tmp_path: Path) -> None:
    columns = {"image": [cell(image) for image in pixels(1, size=8)], "label": [2**30]}
    for part in ("train", "test"):
        write(tmp_path / f"{part}-0.parquet", columns, names=None)
    with pytest.raises(DataError, match=r"train-0.parquet: labels without names must be below 100000, got 1073741824"):
        load_dataset(DatasetConfig(name="parquet", path=str(tmp_path)))


@pytest.mark.parametrize("missing", ["train", "test"])
def test_a_missing_part_is_refused(missing: str, folder: Path) -> None:
    (folder / f"{missing}-0.parquet").unlink()
    with pytest.raises(DataError, match=r"dataset parquet: .* must hold train-\*.parquet and test-\*.parquet or val-\*.parquet or"):
        load_dataset(DatasetConfig(name="parquet", path=str(folder)))


def test_a_folder_that_is_not_there_is_refused(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"dataset parquet: .*absent is not a folder"):
        load_dataset(DatasetConfig(name="parquet", path=str(tmp_path / "absent")))
    with pytest.raises(DataError, match=r"dataset parquet: .*absent is not a folder"):
        load_dataset(DatasetConfig(name="parquet", path=f"file://{tmp_path}/absent"))
    with pytest.raises(ConfigError, match="path must name the folder of parquet"):
        DatasetConfig(name="parquet", path="")


def written_otherwise(folder: Path) -> None:
    """Two parts and two columns that nobody would look for, beside usual ones that hold something else."""
    for part, label in (("seen", 0), ("unseen", 1), ("train", 2), ("test", 2)):
        pictures = [cell(image) for image in pixels(3, seed=label)]
        columns = {"picture": pictures, "image": pictures[::-1], "kind": [label, 1 - label % 2, 2], "label": [9, 9, 9]}
        write(folder / f"{part}-00000-of-00001.parquet", columns, label="kind")


def test_columns_and_parts_are_those_that_are_named(tmp_path: Path) -> None:
    written_otherwise(tmp_path)
    said = {"image_column": "picture", "label_column": "kind", "train_split": "seen", "test_split": "unseen"}
    dataset = load_dataset(DatasetConfig(name="parquet", path=str(tmp_path), **said))
    assert torch.equal(dataset.train.images, torch.from_numpy(pixels(3)).permute(0, 3, 1, 2))
    assert (dataset.train.labels.tolist(), dataset.test.labels.tolist()) == ([0, 1, 2], [1, 0, 2])
    assert dataset.class_names == NAMES


def test_a_column_or_part_that_is_named_and_not_there_is_refused_with_what_is(tmp_path: Path) -> None:
    written_otherwise(tmp_path)
    with pytest.raises(DataError, match="needs a column photo, but has picture, image, kind, label"):
        parquet.load(tmp_path, names=parquet.ParquetNames(image_column="photo", label_column="kind"))
    with pytest.raises(DataError, match=r"must hold train-\*.parquet and dev-\*.parquet"):
        parquet.load(tmp_path, names=parquet.ParquetNames(test_split="dev"))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"name": "image_folder", "image_column": "photo"}, "dataset.image_column must be left out for image_folder"),
        ({"name": "parquet", "train_split": "test", "test_split": "test"}, "dataset.test_split must be another part than"),
        ({"name": "parquet", "test_split": "train"}, "dataset.test_split must be another part than dataset.train_split"),
        ({"name": "parquet", "label_column": ""}, "dataset.label_column must be a name, got ''"),
    ],
)
def test_names_that_make_no_sense_are_refused(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        DatasetConfig(**{"path": "folder", **changes})
