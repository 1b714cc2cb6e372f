"""Labels in Parquet files: which values name a class, and which numbers name them all."""

import json
from decimal import Decimal
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from cpsc.data import Dataset, DatasetConfig, load_dataset
from cpsc.errors import DataError
from tests.unit.cpsc.data.files import cell, pixels, write_parquet

NAN = float("nan")


def write(folder: Path, part: str, labels: list[Any], names: Any = None, *, column: str = "label") -> None:
    cells = [cell(image) for image in pixels(len(labels), size=8, seed=len(part))]
    write_parquet(folder / f"{part}.parquet", {"image": cells, column: labels}, names=names, label=column)


def load(folder: Path, said: list[str] | None = None) -> Dataset:
    config = DatasetConfig(name="parquet", path=str(folder), mean=(0.5,) * 3, std=(0.5,) * 3)
    return load_dataset(config, say=[].append if said is None else said.append)


def refusal(folder: Path) -> str:
    with pytest.raises(DataError) as caught:
        load(folder)
    assert "\n" not in str(caught.value)
    return str(caught.value)


@pytest.mark.parametrize("column", ["label", "labels", "fine_label", "target"])
@pytest.mark.parametrize(
    "labels", [[0, 1, 2], [0.0, 1.0, 2.0], [Decimal(0), Decimal(1), Decimal(2)]], ids=["int", "float", "decimal"]
)
def test_class_numbers_are_read_from_the_usual_columns_also_as_floats(column: str, labels: list[Any], tmp_path: Path) -> None:
    for part in ("train", "test"):
        write(tmp_path, part, labels, column=column)
    dataset = load(tmp_path)
    assert (dataset.train.labels.tolist(), dataset.class_names) == ([0, 1, 2], ("0", "1", "2"))


def test_no_and_yes_are_two_classes(tmp_path: Path) -> None:
    for part in ("train", "test"):
        write(tmp_path, part, [True, False])
    assert load(tmp_path).train.labels.tolist() == [1, 0]


@pytest.mark.parametrize(
    ("labels", "message"),
    [
        ([0, None], "has no label"),
        ([0.0, NAN], "has no label"),
        ([0.0, 0.5], "a label must be a class number, got '0.5'"),
        ([0, -1], "a label must be a class number, got '-1', which marks an unlabelled image"),
        ([0, -2], "a label must be a class number, got '-2'"),
        ([0.0, float("inf")], "a label must be a class number, got 'inf'"),
        (["cat", "1"], "a label must be a class number, got 'cat'"),
        ([[0], [1]], "a label must be a class number, got '[0]'"),
    ],
    ids=str,
)
def test_what_is_no_class_number_is_refused_by_its_row(labels: list[Any], message: str, tmp_path: Path) -> None:
    write(tmp_path, "train", labels)
    write(tmp_path, "test", [0, 1])
    row = 0 if isinstance(labels[0], str | list) else 1
    assert refusal(tmp_path) == f"{tmp_path}/train.parquet: row {row}: {message}"


@pytest.mark.parametrize(
    ("train", "test", "range_", "absent"),
    [([1, 2, 3], [1, 2], "1..3", 0), ([0, 1, 3], [0], "0..3", 2), ([0, 1], [5], "0..5", 2), ([7], [8], "7..8", 0)],
)
def test_labels_without_names_that_leave_a_class_empty_are_refused(
    train: list[int], test: list[int], range_: str, absent: int, tmp_path: Path
) -> None:
    write(tmp_path, "train", train)
    write(tmp_path, "test", test)
    assert refusal(tmp_path) == (
        f"{tmp_path}/train.parquet: labels without names must run from 0 without gaps, but these are {range_} without {absent}: "
        "renumber them, or name the classes in the schema"
    )


@pytest.mark.parametrize("part", ["train", "test"])
def test_a_label_beyond_the_names_is_refused_by_its_row(part: str, tmp_path: Path) -> None:
    for each in ("train", "test"):
        write(tmp_path, each, [0, 1, 2 if each == part else 0], ("cat", "dog"))
    assert refusal(tmp_path) == f"{tmp_path}/{part}.parquet: row 2: label 2 is not in 0..1, the classes that the schema names"


def test_labels_from_one_with_names_are_called_so(tmp_path: Path) -> None:
    for each in ("train", "test"):
        write(tmp_path, each, [1, 2], ("cat", "dog"))
    assert refusal(tmp_path).endswith("row 1: label 2 is not in 0..1, the classes that the schema names; are they numbered from 1?")


def test_classes_of_which_a_part_has_no_image_are_told(tmp_path: Path) -> None:
    write(tmp_path, "train", [1, 2, 2], ("cat", "dog", "eel", "fox"))
    write(tmp_path, "test", [1], ("cat", "dog", "eel", "fox"))
    said: list[str] = []
    assert load(tmp_path, said).num_classes == 4
    assert said == [
        "dataset parquet: the train part has no image of cat, fox",
        "dataset parquet: the test part has no image of cat, eel, fox",
    ]


@pytest.mark.parametrize("others", [("dog", "cat"), ("cat", "dog", "eel"), ("cat",)])
def test_parts_and_shards_must_agree_on_the_names_or_labels_would_shift(others: tuple[str, ...], tmp_path: Path) -> None:
    write(tmp_path, "train-0", [0, 1], ("cat", "dog"))
    write(tmp_path, "test", [0], others)
    assert f"{tmp_path}/test.parquet: its schema names other classes than that of {tmp_path}/train-0.parquet" in refusal(tmp_path)
    write(tmp_path, "test", [0], ("cat", "dog"))
    assert load(tmp_path).class_names == ("cat", "dog")
    write(tmp_path, "train-1", [0], others)
    assert f"{tmp_path}/train-1.parquet: its schema names other classes" in refusal(tmp_path)


@pytest.mark.parametrize(
    ("names", "expected"),
    [({"0": "cat", "1": "dog"}, ("cat", "dog")), ("cat", ("0", "1")), ([1, 2], ("0", "1")), (None, ("0", "1"))],
    ids=["by number", "text", "numbers", "null"],
)
def test_names_of_another_kind_are_read_by_number_or_not_at_all(names: Any, expected: tuple[str, ...], tmp_path: Path) -> None:
    features = json.dumps({"info": {"features": {"label": {"names": names, "_type": "ClassLabel"}}}})
    for part in ("train", "test"):
        table = pa.table({"image": [cell(image) for image in pixels(2, size=8, seed=len(part))], "label": [0, 1]})
        pq.write_table(table.replace_schema_metadata({"huggingface": features}), tmp_path / f"{part}.parquet")
    assert load(tmp_path).class_names == expected


def test_names_that_only_the_test_part_has_are_taken(tmp_path: Path) -> None:
    write(tmp_path, "train", [0, 1])
    write(tmp_path, "test", [0, 1], ("cat", "dog"))
    assert load(tmp_path).class_names == ("cat", "dog")


def test_one_name_for_two_classes_is_refused(tmp_path: Path) -> None:
    write(tmp_path, "train", [0, 1], ("cat", "cat"))
    write(tmp_path, "test", [0, 1])
    assert refusal(tmp_path) == f"{tmp_path}/train.parquet: its schema gives the name cat to two classes"


def test_one_class_is_nothing_to_tell_apart(tmp_path: Path) -> None:
    for part in ("train", "test"):
        write(tmp_path, part, [0, 0])
    assert refusal(tmp_path) == "dataset parquet: has 1 class, 0, but a teacher needs at least 2"


def test_two_columns_of_labels_or_images_are_refused(tmp_path: Path) -> None:
    cells = [cell(image) for image in pixels(2, size=8)]
    write_parquet(tmp_path / "train.parquet", {"image": cells, "label": [0, 1], "fine_label": [1, 0]})
    write(tmp_path, "test", [0, 1])
    assert (
        refusal(tmp_path) == f"{tmp_path}/train.parquet: has columns label and fine_label, which is ambiguous: keep one, or name it"
    )
    write_parquet(tmp_path / "train.parquet", {"image": cells, "img": cells, "label": [0, 1]})
    assert "has columns image and img" in refusal(tmp_path)
    twice = pa.table(
        [pa.array([each["bytes"] for each in cells]), pa.array([0, 1]), pa.array([1, 0])], names=["img", "label", "label"]
    )
    pq.write_table(twice, tmp_path / "train.parquet")
    assert "has columns label and label, which is ambiguous" in refusal(tmp_path)


def test_a_test_part_that_is_the_training_part_is_told(tmp_path: Path) -> None:
    write(tmp_path, "train", [0, 1])
    (tmp_path / "test.parquet").write_bytes((tmp_path / "train.parquet").read_bytes())
    said: list[str] = []
    load(tmp_path, said)
    assert said == ["dataset parquet: both parts hold the same images, so the test uses the training images"]
