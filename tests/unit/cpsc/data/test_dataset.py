from dataclasses import replace

import pytest
import torch

from cpsc.data import DatasetConfig, load_dataset
from cpsc.data.dataset import Normalisation, Split, augment
from cpsc.errors import ConfigError, DataError

NORMALISATION = Normalisation(mean=(0.5, 0.25, 0.0), std=(0.5, 0.25, 1.0))


def rng(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def numbered(num: int = 40, *, size: int = 6) -> torch.Tensor:
    """Images without a zero, whose pixels all differ within a channel."""
    return torch.arange(1, 2 * size * size + 1, dtype=torch.uint8).reshape(1, 2, size, size).repeat(num, 1, 1, 1)


# Normalisation


def test_normalising_is_per_channel_from_pixels_in_0_to_255() -> None:
    images = torch.tensor([0, 255, 51], dtype=torch.uint8).reshape(1, 3, 1, 1)
    assert NORMALISATION.normalise(images).flatten().tolist() == pytest.approx([-1.0, 3.0, 0.2])


def test_every_pixel_value_survives_the_way_there_and_back() -> None:
    images = torch.arange(256, dtype=torch.uint8).reshape(1, 1, 16, 16).repeat(2, 3, 1, 1)
    assert torch.equal(NORMALISATION.to_pixels(NORMALISATION.normalise(images)), images)


def test_pixels_are_rounded_and_clamped() -> None:
    images = torch.tensor([[-9.0, 9.0, 0.5 / 255 + 1e-4]]).reshape(1, 3, 1, 1)
    assert NORMALISATION.to_pixels(images).flatten().tolist() == [0, 255, 1]


def test_bounds_are_black_and_white_in_the_normalised_space() -> None:
    images = torch.zeros(1, 3, 2, 2, dtype=torch.uint8)
    black, white = NORMALISATION.bounds(images.float())
    torch.testing.assert_close(black.expand(3, 2, 2), NORMALISATION.normalise(images)[0])
    torch.testing.assert_close(white.expand(3, 2, 2), NORMALISATION.normalise(images + 255)[0])


# Augmentation


def test_each_crop_is_a_window_of_its_own_zero_padded_image() -> None:
    images = numbered()
    padded = torch.nn.functional.pad(images, (2, 2, 2, 2))
    windows = {(top, left): padded[0, :, top : top + 6, left : left + 6] for top in range(5) for left in range(5)}
    crops = augment(images, crop_padding=2, flip=False, rng=rng())
    found = [place for crop in crops for place, window in windows.items() if torch.equal(crop, window)]
    assert len(found) == len(images)
    assert len(set(found)) > 10


def test_crops_reach_every_offset_the_padding_allows_and_none_beyond() -> None:
    crops = augment(numbered(600), crop_padding=1, flip=False, rng=rng())
    # The first pixel of a crop tells its offset: 0 in the padding, else its place in the image.
    corners = {(top, left) for top in (-1, 0, 1) for left in (-1, 0, 1)}
    image = numbered(1)[0, 0]
    expected = {0 if min(top, left) < 0 else int(image[top, left]) for top, left in corners}
    assert set(crops[:, 0, 0, 0].tolist()) == expected
    assert {int((crop == 0).any(dim=2).all(dim=0).sum()) for crop in crops} == {0, 1, 6}


def test_a_flip_mirrors_about_half_of_the_images_and_leaves_the_rest() -> None:
    images = numbered(400)
    flipped = augment(images, crop_padding=0, flip=True, rng=rng())
    mirrored = (flipped == images.flip(3)).flatten(1).all(dim=1)
    untouched = (flipped == images).flatten(1).all(dim=1)
    assert (mirrored ^ untouched).all()
    assert 150 < int(mirrored.sum()) < 250


@pytest.mark.parametrize("flip", [True, False])
@pytest.mark.parametrize("crop_padding", [0, 3])
@pytest.mark.parametrize("dtype", [torch.uint8, torch.float32])
def test_augmentation_keeps_shape_and_type_and_changes_no_input(flip: bool, crop_padding: int, dtype: torch.dtype) -> None:
    images = numbered(5).to(dtype)
    before = images.clone()
    out = augment(images, crop_padding=crop_padding, flip=flip, rng=rng())
    assert (out.shape, out.dtype) == (images.shape, dtype)
    assert torch.equal(images, before)
    assert torch.equal(out, images) == (not flip and not crop_padding)


def test_augmentation_is_decided_by_its_generator_alone() -> None:
    draws = []
    for global_seed, seed in ((0, 7), (1, 7), (1, 8)):
        torch.manual_seed(global_seed)
        draws.append(augment(numbered(), crop_padding=2, flip=True, rng=rng(seed)))
    assert torch.equal(draws[0], draws[1])
    assert not torch.equal(draws[1], draws[2])


def test_images_stay_in_their_place_in_the_batch_so_that_labels_stay_true() -> None:
    images = torch.arange(1, 9, dtype=torch.uint8).reshape(8, 1, 1, 1).expand(8, 1, 6, 6)
    out = augment(images, crop_padding=2, flip=True, rng=rng())
    assert out.amax(dim=(1, 2, 3)).tolist() == list(range(1, 9))


def test_images_wider_than_high_are_cropped_to_their_own_shape() -> None:
    images = torch.arange(1, 25, dtype=torch.uint8).reshape(1, 1, 4, 6).repeat(9, 1, 1, 1)
    assert augment(images, crop_padding=1, flip=True, rng=rng()).shape == (9, 1, 4, 6)


# Dataset


def test_a_dataset_tells_its_classes_and_image_shape(shapes) -> None:
    assert (shapes.num_classes, shapes.channels, shapes.image_size) == (4, 1, 8)
    assert len(shapes.train) == 64


def test_the_digest_changes_with_every_pixel_and_label_of_both_parts(shapes) -> None:
    def changed(split: Split, *, pixel: int = 0, label: int = 0) -> Split:
        images, labels = split.images.clone(), split.labels.clone()
        images[0, 0, 0, 0] += pixel
        labels[0] += label
        return Split(images, labels)

    digests = {
        each.digest
        for each in (
            shapes,
            replace(shapes, train=changed(shapes.train, pixel=1)),
            replace(shapes, train=changed(shapes.train, label=1)),
            replace(shapes, test=changed(shapes.test, pixel=1)),
            replace(shapes, test=changed(shapes.test, label=1)),
        )
    }
    assert len(digests) == 5
    assert replace(shapes, name="other").digest == shapes.digest


@pytest.mark.parametrize("part", ["train", "test"])
def test_an_empty_part_is_refused(part: str, shapes) -> None:
    empty = Split(torch.zeros(0, 1, 8, 8, dtype=torch.uint8), torch.zeros(0, dtype=torch.int64))
    with pytest.raises(DataError, match=f"dataset shapes: the {part} part is empty"):
        replace(shapes, **{part: empty})


@pytest.mark.parametrize("label", [-1, 4])
def test_labels_outside_the_classes_are_refused_with_their_range(label: int, shapes) -> None:
    labels = shapes.test.labels.clone()
    labels[3] = label
    low, high = min(0, label), max(3, label)
    with pytest.raises(DataError, match=rf"dataset shapes: test labels run from {low} to {high}, outside 0\.\.3"):
        replace(shapes, test=Split(shapes.test.images, labels))


@pytest.mark.parametrize(("height", "width"), [(8, 12), (10, 10)])
def test_images_that_are_not_square_or_that_no_generator_makes_are_refused(height: int, width: int, shapes) -> None:
    split = Split(torch.zeros(4, 1, height, width, dtype=torch.uint8), torch.arange(4))
    with pytest.raises(DataError, match=f"train images are {width}x{height}, all must be alike, square and a multiple of 4 wide"):
        replace(shapes, train=split, test=split)


def test_parts_whose_images_differ_are_refused(shapes) -> None:
    split = Split(torch.zeros(4, 1, 12, 12, dtype=torch.uint8), torch.arange(4))
    with pytest.raises(DataError, match="dataset shapes: test images are 12x12, all must be alike"):
        replace(shapes, test=split)


# Config


def test_digits_take_no_path_and_other_datasets_need_one() -> None:
    with pytest.raises(ConfigError, match=r"dataset.path must be left out for digits.*got 'somewhere'"):
        DatasetConfig(name="digits", path="somewhere")
    with pytest.raises(ConfigError, match=r"dataset.path must name the folder of cifar10: nothing is downloaded"):
        DatasetConfig(name="cifar10")


def test_a_dataset_is_loaded_by_name(tmp_path) -> None:
    assert load_dataset(DatasetConfig(name="digits")).name == "digits"
    with pytest.raises(DataError, match=r"dataset.path: '~nobody-of-this-name/x' is not a folder's path"):
        load_dataset(DatasetConfig(name="cifar10", path="~nobody-of-this-name/x"))
    with pytest.raises(DataError, match=r"dataset cifar10: .* holds neither"):
        load_dataset(DatasetConfig(name="cifar10", path=str(tmp_path)))
