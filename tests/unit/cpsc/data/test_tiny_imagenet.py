"""Tiny-ImageNet as the archive lays it, and with the validation part in class folders; three classes here instead of 200."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch

from cpsc.data import DatasetConfig, load_dataset, tiny_imagenet
from cpsc.data.dataset import Normalisation
from cpsc.errors import DataError
from tests.unit.cpsc.data.files import decoded, encoded, pixels, write_image

# In the order of wnids.txt, which is not sorted.
WNIDS = ("n02124075", "n01443537", "n04067472")
WORDS = {
    "n00001740": "entity",
    "n01443537": "goldfish, Carassius auratus",
    "n02124075": "Egyptian cat",
    "n04067472": "reel",
}
SORTED = tuple(sorted(WNIDS))
GREY = 4
"""This many of the images of a class come before a grey one."""


def image(wnid: str, number: int) -> np.ndarray:
    found = pixels(1, size=64, seed=1000 * WNIDS.index(wnid) + number)[0]
    return found[:, :, 0] if number == GREY else found


@pytest.fixture(autouse=True)
def three_classes(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tiny_imagenet, "NUM_CLASSES", len(WNIDS))


@pytest.fixture
def archive(tmp_path: Path) -> Path:
    """``tiny-imagenet-200`` with five training and two validation images a class, and the unlabelled test part."""
    root = tmp_path / "tiny-imagenet-200"
    for wnid in WNIDS:
        for number in range(5):
            write_image(root / "train" / wnid / "images" / f"{wnid}_{number}.JPEG", image(wnid, number), "JPEG")
        (root / "train" / wnid / f"{wnid}_boxes.txt").write_text(f"{wnid}_0.JPEG\t0\t0\t62\t62\n")
    lines = []
    for number, wnid in enumerate([*WNIDS, *reversed(WNIDS)]):
        write_image(root / "val" / "images" / f"val_{number}.JPEG", image(wnid, 100 + number), "JPEG")
        lines.append(f"val_{number}.JPEG\t{wnid}\t0\t32\t44\t62\n")
    (root / "val" / "val_annotations.txt").write_text("".join(lines))
    write_image(root / "test" / "images" / "test_0.JPEG", image(WNIDS[0], 0), "JPEG")
    (root / "wnids.txt").write_text("\n".join(WNIDS) + "\n")
    (root / "words.txt").write_text("".join(f"{wnid}\t{words}\n" for wnid, words in WORDS.items()))
    return root


@pytest.fixture
def refused(archive: Path) -> Callable[[], str]:
    def message() -> str:
        with pytest.raises(DataError) as caught:
            tiny_imagenet.load(archive)
        assert "\n" not in str(caught.value)
        return str(caught.value)

    return message


def test_the_archive_is_read_with_labels_in_the_order_of_sorted_numbers(archive: Path) -> None:
    dataset = tiny_imagenet.load(archive)
    assert dataset.train.labels.tolist() == [0] * 5 + [1] * 5 + [2] * 5
    assert dataset.test.labels.tolist() == [SORTED.index(wnid) for wnid in [*WNIDS, *reversed(WNIDS)]]
    for place, wnid in enumerate(SORTED):
        for number in range(5):
            expected = decoded(encoded(image(wnid, number), "JPEG"))
            assert torch.equal(dataset.train.images[5 * place + number], torch.from_numpy(expected))
    assert torch.equal(dataset.test.images[1], torch.from_numpy(decoded(encoded(image(WNIDS[1], 101), "JPEG"))))


def test_grey_images_get_three_equal_channels(archive: Path) -> None:
    grey = tiny_imagenet.load(archive).train.images[GREY]
    assert torch.equal(grey[0], grey[1])
    assert torch.equal(grey[0], grey[2])


def test_it_is_normalised_as_imagenet_and_named_by_words(archive: Path) -> None:
    dataset = load_dataset(DatasetConfig(name="tiny_imagenet", path=str(archive)))
    assert dataset.normalisation == Normalisation(mean=(0.485, 0.456, 0.406), std=(0.229, 0.224, 0.225))
    assert dataset.class_names == ("goldfish", "Egyptian cat", "reel")
    assert (dataset.name, dataset.channels, dataset.image_size) == ("tiny_imagenet", 3, 64)
    assert (dataset.crop_padding, dataset.flip) == (4, True)


def test_words_that_two_classes_share_keep_the_number(archive: Path) -> None:
    (archive / "words.txt").write_text("n01443537\tcrane, bird\nn04067472\tcrane, machine\n")
    assert tiny_imagenet.load(archive).class_names == ("crane (n01443537)", "n02124075", "crane (n04067472)")
    (archive / "words.txt").unlink()
    assert tiny_imagenet.load(archive).class_names == SORTED


def test_the_folder_above_the_archives_may_be_given(archive: Path) -> None:
    assert tiny_imagenet.load(archive.parent).digest == tiny_imagenet.load(archive).digest


@pytest.mark.parametrize("nested", [True, False])
def test_class_folders_give_the_same_images_as_the_archive(nested: bool, archive: Path, tmp_path: Path) -> None:
    sorted_copy = tmp_path / "sorted"
    for wnid in WNIDS:
        for number in range(5):
            write_image(sorted_copy / "train" / wnid / f"{wnid}_{number}.JPEG", image(wnid, number), "JPEG")
    for number, wnid in enumerate([*WNIDS, *reversed(WNIDS)]):
        folder = sorted_copy / "val" / wnid / ("images" if nested else "")
        write_image(folder / f"val_{number}.JPEG", image(wnid, 100 + number), "JPEG")
    by_folder, by_annotations = tiny_imagenet.load(sorted_copy), tiny_imagenet.load(archive)
    assert torch.equal(by_folder.train.images, by_annotations.train.images)
    order = by_annotations.test.labels.argsort(stable=True)
    assert torch.equal(by_folder.test.images, by_annotations.test.images[order])
    assert by_folder.test.labels.tolist() == [0, 0, 1, 1, 2, 2]
    assert by_folder.class_names == SORTED


def test_progress_counts_each_part_to_its_end(archive: Path) -> None:
    seen: list[tuple[int, int]] = []
    load_dataset(DatasetConfig(name="tiny_imagenet", path=str(archive)), on_file=lambda done, total: seen.append((done, total)))
    assert seen == [(15, 15), (6, 6)]


# What is wrong with the files


def test_a_training_part_with_too_few_classes_is_refused(refused: Callable[[], str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tiny_imagenet, "NUM_CLASSES", 200)
    assert "train: holds 3 classes, but Tiny-ImageNet has 200" in refused()


def test_a_class_that_the_list_does_not_have_is_refused(archive: Path, refused: Callable[[], str]) -> None:
    (archive / "wnids.txt").write_text("\n".join([*WNIDS[:2], "n09999999"]))
    assert "wnids.txt: does not match train/ (n04067472 is in only one of them)" in refused()


@pytest.mark.parametrize("share", [0.0, 0.3, 0.9])
def test_a_truncated_image_is_refused_by_its_file(share: float, archive: Path, refused: Callable[[], str]) -> None:
    file = archive / "train" / WNIDS[1] / "images" / f"{WNIDS[1]}_3.JPEG"
    whole = file.read_bytes()
    file.write_bytes(whole[: int(share * len(whole))])
    what = "damaged or truncated: image file is truncated" if share else "it is empty, download it again"
    assert refused().startswith(f"{file}: not a readable image ({what}")


def test_an_image_of_another_size_is_refused_by_its_file(archive: Path, refused: Callable[[], str]) -> None:
    file = write_image(archive / "train" / WNIDS[2] / "images" / "x.JPEG", pixels(1, size=32)[0], "JPEG")
    assert refused() == f"{file}: is 32x32, must be 64x64"


def test_a_class_without_images_is_refused(archive: Path, refused: Callable[[], str]) -> None:
    for file in (archive / "train" / WNIDS[0] / "images").iterdir():
        file.unlink()
    assert f"train/{WNIDS[0]}: holds no image" in refused()


def test_a_validation_image_that_is_not_there_is_refused(archive: Path, refused: Callable[[], str]) -> None:
    (archive / "val" / "images" / "val_3.JPEG").rename(archive / "val" / "images" / "val_7.JPEG")
    assert refused().endswith("val/images/val_3.JPEG: no such file")


def test_annotations_that_end_early_are_refused(archive: Path, refused: Callable[[], str]) -> None:
    annotations = archive / "val" / "val_annotations.txt"
    annotations.write_text("".join(annotations.read_text().splitlines(keepends=True)[:4]))
    assert f"val_annotations.txt: names 4 images, {archive}/val/images holds 6" in refused()
    annotations.write_text("")
    assert "val_annotations.txt: names 0 images" in refused()


@pytest.mark.parametrize("line", ["val_0.JPEG", "val_0.JPEG\tn09999999\t1", "../train/x.JPEG\tn02124075", "\tn02124075"])
def test_an_annotation_without_an_image_or_a_known_class_is_refused(line: str, archive: Path, refused: Callable[[], str]) -> None:
    (archive / "val" / "val_annotations.txt").write_text(f"val_1.JPEG\t{WNIDS[0]}\n{line}\n")
    assert f"val_annotations.txt: line 2 must name an image and one of train's classes, got {line!r}" in refused()


def test_annotations_that_are_missing_or_no_text_are_refused(archive: Path, refused: Callable[[], str]) -> None:
    annotations = archive / "val" / "val_annotations.txt"
    annotations.write_bytes(b"\xff\xd8\xff\xe0")
    assert "val_annotations.txt: is not text" in refused()
    annotations.unlink()
    assert "val_annotations.txt: cannot be read (No such file or directory)" in refused()


def test_a_folder_without_a_validation_part_is_refused(archive: Path, refused: Callable[[], str]) -> None:
    (archive / "val").rename(archive / "validation")
    assert f"dataset tiny_imagenet: {archive} holds no val/" in refused()


def test_an_annotation_that_comes_twice_in_place_of_another_is_refused(archive: Path, refused: Callable[[], str]) -> None:
    annotations = archive / "val" / "val_annotations.txt"
    lines = annotations.read_text().splitlines()
    annotations.write_text("\n".join([*lines[:5], lines[0]]))
    assert "val_annotations.txt: line 6 names val_0.JPEG again, unpack the archive again" in refused()


def test_what_systems_leave_between_the_images_is_nobodys(archive: Path) -> None:
    digest = tiny_imagenet.load(archive).digest
    for path in (
        "train/.ipynb_checkpoints/0.JPEG",
        f"train/{WNIDS[0]}/images/.ipynb_checkpoints/0.JPEG",
        "val/images/._val_0.JPEG",
    ):
        write_image(archive / path, image(WNIDS[0], 0), "JPEG")
    (archive / "train" / "__MACOSX").mkdir()
    assert tiny_imagenet.load(archive).digest == digest


def test_how_many_images_are_missing_is_told(archive: Path) -> None:
    said: list[str] = []
    tiny_imagenet.load(archive, say=said.append)
    assert said == [
        "dataset tiny_imagenet: the train part holds 15 of the 1,500 published images",
        "dataset tiny_imagenet: the val part holds 6 of the 150 published images",
    ]
