"""Any images in class folders: formats, sizes, labels, names, and what is refused."""

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from cpsc.data import DatasetConfig, image_folder, load_dataset
from cpsc.data.dataset import Normalisation
from cpsc.errors import DataError
from tests.unit.cpsc.data.files import decoded, encoded, pixels, write_image

IMAGES = pixels(7, size=8, seed=3)
ABSENT = "dataset image_folder: the test part has no image of Bee"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Classes ``ant``, ``Bee``, ``cow``, in the order of their bytes: Bee, ant, cow."""
    for index, (name, kind) in enumerate(
        [("Bee/1.png", "PNG"), ("ant/0.jpg", "JPEG"), ("ant/9.PNG", "PNG"), ("cow/a/b.bmp", "BMP")]
    ):
        write_image(tmp_path / "train" / name, IMAGES[index], kind)
    for index, name in enumerate(["ant/0.png", "cow/0.webp"]):
        write_image(tmp_path / "test" / name, IMAGES[4 + index])
    return tmp_path


def test_images_of_several_formats_are_read_by_class_and_name(folder: Path) -> None:
    dataset = image_folder.load(folder)
    assert dataset.class_names == ("Bee", "ant", "cow")
    assert dataset.train.labels.tolist() == [0, 1, 1, 2]
    lossy = decoded(encoded(IMAGES[1], "JPEG"))
    expected = np.stack([IMAGES[0].transpose(2, 0, 1), lossy, IMAGES[2].transpose(2, 0, 1), IMAGES[3].transpose(2, 0, 1)])
    assert torch.equal(dataset.train.images, torch.from_numpy(expected))
    assert dataset.train.labels.dtype == torch.int64


def test_a_class_may_be_missing_from_the_test_part_without_moving_labels(folder: Path) -> None:
    dataset = image_folder.load(folder)
    assert dataset.test.labels.tolist() == [1, 2]
    assert torch.equal(dataset.test.images, torch.from_numpy(IMAGES[4:6]).permute(0, 3, 1, 2))


def test_images_are_read_grey_where_the_config_says_so(folder: Path) -> None:
    said: list[str] = []
    dataset = load_dataset(DatasetConfig(name="image_folder", path=str(folder), channels=1), say=said.append)
    assert (dataset.channels, len(dataset.normalisation.mean)) == (1, 1)
    for image, coloured in zip(dataset.test.images, IMAGES[4:6], strict=True):
        assert np.array_equal(image[0].numpy(), np.array(Image.fromarray(coloured).convert("L")))
    assert not any("grey" in line for line in said)


def test_what_is_no_image_or_hidden_is_left_out(folder: Path) -> None:
    whole = image_folder.load(folder).digest
    (folder / "train" / "ant" / "notes.txt").write_text("x")
    (folder / "train" / "ant" / "._0.jpg").write_bytes(b"a Mac's")
    (folder / "train" / ".cache").mkdir()
    (folder / "train" / "README.md").write_text("x")
    assert image_folder.load(folder).digest == whole


def test_the_test_part_may_be_called_val_and_test_comes_first(folder: Path) -> None:
    write_image(folder / "val" / "ant" / "0.png", IMAGES[6])
    assert len(image_folder.load(folder).test) == 2
    (folder / "test").rename(folder / "elsewhere")
    dataset = image_folder.load(folder)
    assert torch.equal(dataset.test.images[0], torch.from_numpy(IMAGES[6]).permute(2, 0, 1))


def test_the_config_decides_normalisation_and_flips(folder: Path) -> None:
    said: list[str] = []
    given = load_dataset(
        DatasetConfig(name="image_folder", path=str(folder), mean=(0.1, 0.2, 0.3), std=(1.0, 0.5, 0.2), flip=False), say=said.append
    )
    assert (given.normalisation, given.flip) == (Normalisation(mean=(0.1, 0.2, 0.3), std=(1.0, 0.5, 0.2)), False)
    assert said == [ABSENT]
    measured = load_dataset(DatasetConfig(name="image_folder", path=str(folder)), say=said.append)
    normalised = measured.normalisation.normalise(measured.train.images)
    assert normalised.mean(dim=(0, 2, 3)).tolist() == pytest.approx([0.0] * 3, abs=1e-3)
    assert (measured.flip, measured.crop_padding, len(said)) == (True, 1, 3)


def test_grey_paletted_and_transparent_images_get_three_channels(tmp_path: Path) -> None:
    red = np.zeros((8, 8, 3), np.uint8)
    red[:, :4] = (255, 0, 0)
    opaque = Image.fromarray(red)
    for name, picture in (("grey", opaque.convert("L")), ("paletted", opaque.quantize(2)), ("transparent", opaque.convert("RGBA"))):
        (tmp_path / "train" / "a").mkdir(parents=True, exist_ok=True)
        picture.save(tmp_path / "train" / "a" / f"{name}.png")
    write_image(tmp_path / "val" / "a" / "0.png", red)
    write_image(tmp_path / "train" / "b" / "0.png", red)
    images = image_folder.load(tmp_path).train.images
    assert torch.equal(images[0], torch.from_numpy(np.array(opaque.convert("L"))).expand(3, 8, 8))
    assert torch.equal(images[1], torch.from_numpy(red).permute(2, 0, 1))
    assert torch.equal(images[2], images[1])


@pytest.mark.parametrize("kind", [np.uint16, np.int32], ids=str)
def test_an_image_of_more_than_8_bits_is_refused_and_not_cut_off(kind: type, folder: Path) -> None:
    file = folder / "train" / "ant" / "5.tif"
    Image.fromarray(np.full((8, 8), 4096, kind)).save(file)
    with pytest.raises(DataError, match=f"^{file}: has pixels of more than 8 bits"):
        image_folder.load(folder)


# Sizes


def test_images_of_several_sizes_are_refused_by_the_first_that_differs(folder: Path) -> None:
    file = write_image(folder / "train" / "ant" / "5.png", pixels(1, size=12)[0])
    with pytest.raises(
        DataError, match=f"^{file}: is 12x12, the first image is 8x8: all must have the same size, or set dataset.image_size"
    ):
        image_folder.load(folder)


def test_with_an_image_size_the_shortest_side_is_brought_to_it_and_the_middle_kept(tmp_path: Path) -> None:
    wide = np.zeros((16, 48, 3), np.uint8)
    wide[:, 16:32] = 200
    wide[:, 16:24, 1] = 40
    write_image(tmp_path / "train" / "a" / "0.png", wide)
    write_image(tmp_path / "train" / "a" / "1.png", wide.transpose(1, 0, 2))
    write_image(tmp_path / "train" / "b" / "0.png", wide)
    write_image(tmp_path / "test" / "a" / "0.png", np.full((4, 4, 3), 90, np.uint8))
    dataset = load_dataset(DatasetConfig(name="image_folder", path=str(tmp_path), image_size=8))
    first = dataset.train.images[0]
    assert first.shape == (3, 8, 8)
    assert first[:, :, 1:7].flatten(1).amin(dim=1).tolist() == [200, 40, 200], "the dark thirds left and right are cropped"
    resized = Image.fromarray(wide).resize((24, 8), Image.Resampling.BILINEAR).crop((8, 0, 16, 8))
    assert torch.equal(first, torch.from_numpy(np.array(resized)).permute(2, 0, 1))
    assert torch.equal(dataset.train.images[1], first.transpose(1, 2))
    assert set(dataset.test.images.flatten().tolist()) == {90}


def test_shrinking_averages_what_it_drops(tmp_path: Path) -> None:
    checks = np.zeros((64, 64, 3), np.uint8)
    checks[::2, ::2] = checks[1::2, 1::2] = 255
    for part in ("train", "test"):
        for name in "ab":
            write_image(tmp_path / part / name / "0.png", checks)
    images = image_folder.load(tmp_path, image_size=8, normalisation=Normalisation(mean=(0.5,) * 3, std=(0.5,) * 3)).train.images
    assert 120 < int(images.min()) <= int(images.max()) < 136, "without antialiasing a pixel would be black or white"


def test_images_that_have_the_size_already_are_not_touched(folder: Path) -> None:
    assert image_folder.load(folder, image_size=8).digest == image_folder.load(folder).digest


# What is wrong with the files


@pytest.mark.parametrize(("missing", "name"), [("train", "train"), ("test", "test")])
def test_a_missing_part_is_refused(missing: str, name: str, folder: Path) -> None:
    (folder / missing).rename(folder / "elsewhere")
    with pytest.raises(
        DataError, match=f"dataset image_folder: {folder} must hold train/ and test/ or val/, each with one folder per class"
    ):
        image_folder.load(folder)


def test_a_part_without_class_folders_is_refused(folder: Path) -> None:
    (folder / "test").rename(folder / "elsewhere")
    write_image(folder / "test" / "0.png", IMAGES[0])
    with pytest.raises(DataError, match=f"{folder}/test: holds no folders, it must have one per class"):
        image_folder.load(folder)


def test_a_test_class_that_nothing_was_trained_on_is_refused(folder: Path) -> None:
    write_image(folder / "test" / "dog" / "0.png", IMAGES[0])
    with pytest.raises(DataError, match="test/dog: is not one of the 3 classes of the training part"):
        image_folder.load(folder)


def test_an_empty_class_is_refused(folder: Path) -> None:
    (folder / "train" / "dog").mkdir()
    with pytest.raises(DataError, match=r"train/dog: holds no image \(.bmp, .gif, .jfif, .jpe, .jpeg, .jpg"):
        image_folder.load(folder)


@pytest.mark.parametrize(
    "content", [b"", b"no image", b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 8 8\n"], ids=["empty", "text", "eps"]
)
def test_a_file_that_is_no_image_is_refused_by_its_name(content: bytes, folder: Path) -> None:
    (folder / "test" / "cow" / "1.png").write_bytes(content)
    with pytest.raises(DataError, match=f"^{folder}/test/cow/1.png: not a readable image"):
        image_folder.load(folder)


def test_of_several_damaged_files_the_first_is_named(folder: Path) -> None:
    for index in range(300):
        (folder / "train" / "cow" / f"{index:03d}.png").write_bytes(encoded(IMAGES[0]) if index in range(100) else b"x")
    with pytest.raises(DataError, match=r"train/cow/100\.png: not a readable image"):
        image_folder.load(folder)
