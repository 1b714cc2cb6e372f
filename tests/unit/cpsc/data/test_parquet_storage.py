"""Which Parquet files are a part, and is it whole? Sets as hubs, tools and interrupted downloads leave them."""

import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from cpsc.data import DatasetConfig, cifar10, load_dataset
from cpsc.data.shards import check_shards
from cpsc.errors import DataError
from tests.unit.cpsc.data.files import cell, pixels, write_parquet

THREE = tuple(f"train-0000{index}-of-00003.parquet" for index in range(3))


def write(folder: Path, *names: str) -> None:
    """One image of each of two classes a file; all files differ."""
    for name in names:
        images = pixels(2, size=8, seed=sum(map(ord, name)))
        write_parquet(folder / name, {"img": [cell(image) for image in images], "label": [0, 1]})


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    write(tmp_path, "test-00000-of-00001.parquet")
    return tmp_path


@pytest.fixture
def refused(folder: Path) -> Callable[[], str]:
    def message() -> str:
        with pytest.raises(DataError) as caught:
            load_dataset(DatasetConfig(name="parquet", path=str(folder)))
        assert "\n" not in str(caught.value)
        return str(caught.value)

    return message


def said(folder: Path) -> list[str]:
    lines: list[str] = []
    load_dataset(DatasetConfig(name="parquet", path=str(folder), mean=(0.5,) * 3, std=(0.5,) * 3), say=lines.append)
    return lines


@pytest.mark.parametrize(
    "names",
    [
        THREE,
        [f"train_{index}_of_3.parquet" for index in (1, 2, 3)],
        [f"train-0000{index}-of-00002-{index}a9b74b3ef9c3b56.parquet" for index in range(2)],
        [f"data/{name}" for name in THREE],
        [f"train/{name}" for name in THREE],
        ["train/0000.parquet", "train/0001.parquet"],
        ["train-7.parquet", "train-9.parquet"],
        ["train-2021.parquet", "train-2023.parquet"],
        ["train-cats.parquet", "train-dogs.parquet"],
        ["TRAIN.PARQUET"],
        ["train/a/0.parquet", "train/b/0.parquet"],
        ["train.parquet/part-00000-c000.snappy.parquet", "train.parquet/part-00001-c000.snappy.parquet"],
    ],
    ids=str,
)
def test_a_whole_set_is_read_in_silence(names: list[str], folder: Path) -> None:
    write(folder, *names)
    assert said(folder) == []
    assert len(load_dataset(DatasetConfig(name="parquet", path=str(folder))).train) == 2 * len(names)


@pytest.mark.parametrize(
    ("names", "message"),
    [
        ([THREE[0], THREE[2]], ": lacks train-00001-of-00003.parquet, the set has 3 files: download it"),
        ([THREE[2]], ": lacks train-00000-of-00003.parquet and 1 more, the set has 3 files"),
        (["data/" + THREE[0], "data/" + THREE[1]], "/data: lacks train-00002-of-00003.parquet"),
        (["train/" + THREE[0]], "/train: lacks train-00001-of-00003.parquet and 1 more"),
        (["train_00000_of_00003.parquet", "train_00002_of_00003.parquet"], ": lacks train_00001_of_00003.parquet"),
        (["train-00001-of-00002-1a9b74b3ef9c3b56.parquet"], ": lacks train-00000-of-00002*.parquet"),
        (["train_1_of_3.parquet", "train_3_of_3.parquet"], ": lacks train_2_of_3.parquet"),
        ([*THREE, "train-00003-of-00003.parquet"], ": train-00003-of-00003.parquet has a number beyond its set, which has 3 files"),
        (
            [*THREE, *(f"train-0000{index}-of-00002.parquet" for index in range(2))],
            ": train-00000-of-00002.parquet and train-00000-of-00003.parquet belong to two sets, keep one set",
        ),
        ([*THREE, "train-00001-of-00003 (1).parquet"], "train-00001-of-00003.parquet are the same shard, keep one"),
        ([*THREE, "train.parquet"], ": train.parquet and train-00000-of-00003.parquet belong to two sets, keep one set"),
        (["train-0.parquet", "train.parquet"], ": train.parquet and train-0.parquet belong to two sets, keep one set"),
        (
            [*THREE, "train-extra.parquet"],
            ": train-extra.parquet and train-00000-of-00003.parquet belong to two sets, keep one set",
        ),
        (["train/0000.parquet", "train/0002.parquet"], "/train: 0001.parquet is missing between the others: download it"),
        (["train.parquet", "data/train-0.parquet"], ": train.parquet and data/train-0.parquet are two train parts, keep only one"),
        (["train.parquet", "train/0.parquet"], ": train.parquet and train/0.parquet are two train parts, keep only one"),
        ([*THREE[:2], THREE[2] + ".incomplete"], "/train-00002-of-00003.parquet.incomplete: is an unfinished download"),
        (["train/0.parquet", "train/1.parquet.crdownload"], "/train/1.parquet.crdownload: is an unfinished download"),
    ],
    ids=str,
)
def test_a_set_that_is_not_whole_or_there_twice_is_refused(
    names: list[str], message: str, folder: Path, refused: Callable[[], str]
) -> None:
    write(folder, *names)
    assert message in refused()
    assert str(folder) in refused()


def test_the_same_holds_of_the_test_part_of_uris_and_of_cifar(folder: Path, refused: Callable[[], str]) -> None:
    write(folder, "train.parquet", "test-00002-of-00003.parquet")
    (folder / "test-00000-of-00001.parquet").unlink()
    assert ": lacks test-00000-of-00003.parquet and 1 more" in refused()
    for load in (lambda: load_dataset(DatasetConfig(name="parquet", path=f"file://{folder}")), lambda: cifar10.load(folder / "c")):
        (folder / "c").mkdir(exist_ok=True)
        write(folder / "c", THREE[0])
        with pytest.raises(DataError, match=r"of-00003.parquet and 1 more, the set has 3 files"):
            load()


def test_a_copy_under_another_name_is_refused_by_its_rows(folder: Path, refused: Callable[[], str]) -> None:
    write(folder, "train-0.parquet", "train-1.parquet")
    shutil.copy(folder / "train-1.parquet", folder / "train-1 (copy).parquet")
    assert refused() == f"{folder}/train-1.parquet: holds the same rows as {folder}/train-1 (copy).parquet, keep one"


@pytest.mark.parametrize(
    ("content", "what"),
    [
        (b"", "it is empty, download it again"),
        (
            b"version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 119705255\n",
            "it is a Git LFS pointer, fetch the file with `git lfs pull`",
        ),
        (b"\n<!DOCTYPE html><html><body>Sign in</body></html>", "it is a web page instead of the file, download it again"),
        (b"PK\x03\x04 and more", "it is a compressed archive, unpack it"),
    ],
    ids=["empty", "lfs", "html", "zip"],
)
def test_what_stands_in_for_a_file_is_named(content: bytes, what: str, folder: Path, refused: Callable[[], str]) -> None:
    (folder / "train-0.parquet").write_bytes(content)
    assert refused() == f"{folder}/train-0.parquet: not a readable Parquet file ({what})"


def test_a_link_to_nothing_is_refused_for_the_listing_leaves_it_out(folder: Path, refused: Callable[[], str]) -> None:
    write(folder, "train-0.parquet")
    (folder / "train-1.parquet").symlink_to(folder / "blobs" / "gone")
    assert refused() == f"{folder}/train-1.parquet: is a link to a missing file, download it again"


def test_what_is_hidden_or_a_systems_own_does_not_matter(folder: Path) -> None:
    write(folder, "train/0.parquet")
    for name in (".cache/huggingface/download/x.parquet.incomplete", "train/._0.parquet", "train/.ipynb_checkpoints/0.parquet"):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(b"no Parquet")
    (folder / "train" / "__MACOSX").mkdir()
    (folder / "train" / "__MACOSX" / "0.parquet").write_bytes(b"no Parquet")
    assert said(folder) == []


def test_files_of_no_part_that_is_read_are_told(folder: Path) -> None:
    write(folder, "train-0.parquet", "validation-0.parquet", "extra-0.parquet")
    assert said(folder) == [f"{folder}: ignores extra-0.parquet and 1 more, outside of the two parts that are read"]


def test_numbers_that_begin_with_one_are_doubted_where_a_tool_would_begin_with_zero() -> None:
    lines: list[str] = []
    check_shards(["train-1.parquet", "train-2.parquet"], "here", lines.append)
    assert lines == []
    check_shards(["0001.parquet", "0002.parquet"], "here", lines.append)
    assert lines == ["here: its files are numbered from 0001; check that no file with a lower number is missing"]
