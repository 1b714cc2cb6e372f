"""What lies between images in folders: left by systems, linked, nested, of other endings."""

import os
from pathlib import Path

import numpy as np
import pytest

from cpsc.data import DatasetConfig, image_folder, load_dataset
from cpsc.errors import DataError
from tests.unit.cpsc.data.files import pixels, write_image

IMAGES = pixels(8, size=8, seed=5)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Two classes, two training images and a test image each."""
    for index, name in enumerate(["train/cat/0", "train/cat/1", "train/dog/0", "train/dog/1", "test/cat/0", "test/dog/0"]):
        write_image(tmp_path / "data" / f"{name}.png", IMAGES[index])
    return tmp_path / "data"


def load(folder: Path) -> tuple[str, list[str]]:
    """The digest, and what is said."""
    said: list[str] = []
    config = DatasetConfig(name="image_folder", path=str(folder), mean=(0.5,) * 3, std=(0.5,) * 3)
    return load_dataset(config, say=said.append).digest, said


@pytest.mark.parametrize(
    "path",
    [
        ".ipynb_checkpoints/0-checkpoint.png",
        "train/.ipynb_checkpoints/0-checkpoint.png",
        "train/cat/.ipynb_checkpoints/0-checkpoint.png",
        "train/cat/.thumbnails/large/0.png",
        "test/dog/.ipynb_checkpoints/0.png",
        "train/cat/._0.png",
        "train/cat/.DS_Store",
        "train/__MACOSX/cat/0.png",
        "train/cat/__MACOSX/0.png",
        "train/cat/@eaDir/0.png/SYNOPHOTO_THUMB_M.jpg",
        "train/@eaDir/x.jpg",
        "train/lost+found/x.png",
        "train/cat/Thumbs.db",
        "train/cat/desktop.ini",
        "train/$RECYCLE.BIN/x.png",
        "train/System Volume Information/x.png",
        "train/cat/LICENSE.txt",
        "train/labels.csv",
    ],
)
def test_what_systems_and_people_leave_beside_images_is_nobodys(path: str, folder: Path) -> None:
    whole = load(folder)
    assert whole[1] == []
    write_image(folder / path, IMAGES[7])
    assert load(folder) == whole


@pytest.mark.parametrize(
    ("path", "line"),
    [
        ("train/cat/2.heic", "{folder}/train: ignores 1 file without an image file's ending, e.g. cat/2.heic"),
        ("test/dog/2.npy", "{folder}/test: ignores 1 file without an image file's ending, e.g. dog/2.npy"),
        ("train/cat/2.png.part", "{folder}/train: ignores 1 file without an image file's ending, e.g. cat/2.png.part"),
        ("train/cat/more.zip", "{folder}/train: ignores 1 file without an image file's ending, e.g. cat/more.zip"),
        ("train/cat/image", "{folder}/train: ignores 1 file without an image file's ending, e.g. cat/image"),
        ("train/0.png", "{folder}/train: ignores 1 file outside of the class folders, e.g. 0.png"),
        ("val/cat/0.png", "{folder}: ignores val/, because the test part is test/"),
    ],
)
def test_what_may_be_taken_for_an_image_that_counts_is_told(path: str, line: str, folder: Path) -> None:
    digest, _ = load(folder)
    write_image(folder / path, IMAGES[7])
    assert load(folder) == (digest, [line.format(folder=folder)])


def test_classes_inside_classes_are_told(folder: Path) -> None:
    for name in ("lion", "tiger"):
        write_image(folder / "train" / "cat" / name / "0.png", IMAGES[6])
    assert load(folder)[1] == [f"{folder}/train/cat: its folders lion and tiger, 2 in total, are read as one class, cat"]


def test_a_folder_too_much_is_told_apart_from_a_class(folder: Path) -> None:
    for part in ("train", "test"):
        (folder / part).rename(folder / "aside")
        (folder / part).mkdir()
        (folder / "aside").rename(folder / part / part)
    with pytest.raises(DataError, match=f"^{folder}/test/test: is not one of the 1 classes of the training part"):
        load(folder)
    (folder / "test" / "test").rename(folder / "test" / "train")
    with pytest.raises(DataError, match="dataset image_folder: has 1 class, train, but a teacher needs at least 2"):
        load(folder)


# Links


def test_images_and_folders_that_lie_elsewhere_are_read_through_links(folder: Path, tmp_path: Path) -> None:
    write_image(folder / "train" / "cat" / "more" / "2.png", IMAGES[6])
    whole = load(folder)
    for name in ("train/cat/more", "train/dog", "test/cat/0.png"):
        elsewhere = tmp_path / name.replace("/", "_")
        (folder / name).rename(elsewhere)
        (folder / name).symlink_to(elsewhere)
    assert load(folder) == whole


def test_an_image_that_a_link_leads_to_again_counts_once(folder: Path) -> None:
    digest, _ = load(folder)
    (folder / "train" / "cat" / "again.png").symlink_to("0.png")
    (folder / "train" / "cat" / "all").symlink_to(".")
    assert load(folder) == (
        digest,
        [f"{folder}/train: ignores 1 file linked to another of its images, e.g. cat/again.png"],
    )


@pytest.mark.parametrize("link", ["train/dog/x.png", "train/kitten", "train/dog/cats"])
def test_an_image_of_two_classes_is_refused(link: str, folder: Path) -> None:
    target = folder / "train" / "cat" / ("0.png" if link.endswith("png") else "")
    (folder / link).symlink_to(target)
    write_image(folder / "test" / "kitten" / "0.png", IMAGES[7]) if "kitten" in link else None
    with pytest.raises(
        DataError, match=rf"^{folder}/{link}.*: is a link to {folder}/train/cat/0.png, which belongs to another class: an image has"
    ):
        load(folder)


def test_a_test_part_that_is_a_link_to_the_training_part_is_refused(folder: Path) -> None:
    (folder / "test").rename(folder / "aside")
    (folder / "test").symlink_to("train")
    with pytest.raises(
        DataError, match=f"^{folder}/test: is the same folder as {folder}/train, but a teacher must be tested on other images"
    ):
        load(folder)


def test_a_link_to_nothing_is_refused_by_its_name(folder: Path) -> None:
    (folder / "train" / "cat" / "2.png").symlink_to("gone.png")
    with pytest.raises(DataError, match=f"^{folder}/train/cat/2.png: no such file$"):
        image_folder.load(folder)


def test_a_copy_of_the_training_part_is_told(folder: Path) -> None:
    for name in ("cat/0", "cat/1", "dog/0", "dog/1"):
        write_image(folder / "test" / f"{name}.png", np.zeros((8, 8, 3), np.uint8))
        write_image(folder / "train" / f"{name}.png", np.zeros((8, 8, 3), np.uint8))
    assert load(folder)[1] == ["dataset image_folder: both parts hold the same images, so the test uses the training images"]


def test_a_pipe_among_the_images_does_not_stop_the_reading(folder: Path) -> None:
    whole = load(folder)
    os.mkfifo(folder / "train" / "cat" / "2.png")
    assert load(folder) == whole
