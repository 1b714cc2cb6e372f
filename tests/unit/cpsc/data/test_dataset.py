from dataclasses import replace

import pytest
import torch

from cpsc.data import DatasetConfig, load_dataset
from cpsc.data.dataset import Normalisation, Split, augment, measure_normalisation, of_any_images
from cpsc.errors import ConfigError, DataError
from cpsc.published import NORMALISATIONS

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


def test_truncated_pixels_are_the_next_lower_level_half_a_level_darker_on_average() -> None:
    pixels = torch.rand(64, 3, 16, 16, generator=torch.Generator().manual_seed(0))
    written = (pixels.numpy() * 255).astype("uint8")  # as the toolbox makes its files
    images = NORMALISATION.from_unit(pixels)
    truncated, rounded = NORMALISATION.to_pixels(images, truncate=True), NORMALISATION.to_pixels(images)
    assert (truncated.numpy() != written).mean() < 0.003
    assert (rounded.int() - truncated.int()).unique().tolist() == [0, 1]
    assert (rounded.float() - truncated.float()).mean().item() == pytest.approx(0.5, abs=0.01)
    assert (255 * pixels - truncated.float()).mean().item() == pytest.approx(0.5, abs=0.01)


@pytest.mark.parametrize("normalisation", [NORMALISATION, *NORMALISATIONS.values()])
def test_every_level_stays_what_it_is_when_it_is_truncated_too(normalisation: Normalisation) -> None:
    images = torch.arange(256, dtype=torch.uint8).reshape(1, 1, 16, 16).repeat(2, len(normalisation.mean), 1, 1)
    assert torch.equal(normalisation.to_pixels(normalisation.normalise(images), truncate=True), images)


def test_bounds_are_black_and_white_in_the_normalised_space() -> None:
    images = torch.zeros(1, 3, 2, 2, dtype=torch.uint8)
    black, white = NORMALISATION.bounds(images.float())
    torch.testing.assert_close(black.expand(3, 2, 2), NORMALISATION.normalise(images)[0])
    torch.testing.assert_close(white.expand(3, 2, 2), NORMALISATION.normalise(images + 255)[0])


def test_a_measured_normalisation_whitens_each_channel_over_all_batches() -> None:
    rng = torch.Generator().manual_seed(0)
    images = torch.randint(0, 200, (5000, 3, 4, 4), generator=rng, dtype=torch.uint8)
    images[:, 1] //= 2
    images[4999] = 255
    measured = measure_normalisation(images)
    pixels = images.double() / 255
    assert measured.mean == pytest.approx(pixels.mean(dim=(0, 2, 3)).tolist(), abs=6e-5)
    assert measured.std == pytest.approx(pixels.std(dim=(0, 2, 3), correction=0).tolist(), abs=6e-5)
    assert all(value == round(value, 4) for value in (*measured.mean, *measured.std))


def test_a_constant_channel_has_no_deviation_to_divide_by() -> None:
    images = torch.randint(0, 256, (9, 3, 4, 4), generator=rng(), dtype=torch.uint8)
    images[:, 2] = 7
    with pytest.raises(DataError, match=r"have a constant channel .*: set dataset.mean and dataset.std"):
        measure_normalisation(images)


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
    with pytest.raises(
        DataError, match=f"train images are {width}x{height}, all must have the same size, be square and a multiple of 4 wide"
    ):
        replace(shapes, train=split, test=split)


def test_parts_whose_images_differ_are_refused(shapes) -> None:
    split = Split(torch.zeros(4, 1, 12, 12, dtype=torch.uint8), torch.arange(4))
    with pytest.raises(DataError, match="dataset shapes: test images are 12x12, all must have the same size"):
        replace(shapes, test=split)


def test_images_nothing_is_known_about_are_cropped_by_an_eighth_and_flipped_if_asked(shapes) -> None:
    dataset = of_any_images("any", shapes.train, shapes.test, shapes.class_names, None, flip=False)
    assert (dataset.crop_padding, dataset.flip) == (1, False)
    assert dataset.normalisation == measure_normalisation(shapes.train.images)
    assert (
        of_any_images("any", shapes.train, shapes.test, shapes.class_names, NORMALISATION, flip=True).normalisation is NORMALISATION
    )


# Config


def test_digits_take_no_path_and_other_datasets_need_one() -> None:
    with pytest.raises(ConfigError, match=r"dataset.path must be left out for digits.*got 'somewhere'"):
        DatasetConfig(name="digits", path="somewhere")
    with pytest.raises(ConfigError, match=r"dataset.path must name the folder of cifar10: nothing is downloaded"):
        DatasetConfig(name="cifar10")


def test_a_dataset_is_loaded_by_name(tmp_path) -> None:
    assert load_dataset(DatasetConfig(name="digits")).name == "digits"
    with pytest.raises(DataError, match=r"dataset.path: '~nobody-of-this-name/x' is not the path of a folder"):
        load_dataset(DatasetConfig(name="cifar10", path="~nobody-of-this-name/x"))
    with pytest.raises(DataError, match=r"dataset cifar10: .* holds neither"):
        load_dataset(DatasetConfig(name="cifar10", path=str(tmp_path)))


@pytest.mark.parametrize("name", ["cifar10", "cifar100", "tiny_imagenet", "image_folder", "parquet"])
def test_every_dataset_of_files_needs_its_folder_and_is_looked_for_there(name: str, tmp_path) -> None:
    with pytest.raises(ConfigError, match=f"dataset.path must name the folder of {name}: nothing is downloaded"):
        DatasetConfig(name=name)
    for folder in (tmp_path, tmp_path / "absent"):
        with pytest.raises(DataError, match=f"^dataset {name}: {folder}") as refused:
            load_dataset(DatasetConfig(name=name, path=str(folder)))
        assert "\n" not in str(refused.value)


@pytest.mark.parametrize(
    ("name", "key", "value"),
    [
        ("digits", "image_size", 16),
        ("digits", "mean", (0.5, 0.5, 0.5)),
        ("cifar10", "image_size", 32),
        ("cifar100", "flip", False),
        ("tiny_imagenet", "image_size", 64),
        ("tiny_imagenet", "flip", True),
    ],
)
def test_a_key_without_effect_is_refused(name: str, key: str, value: object) -> None:
    path = None if name == "digits" else "somewhere"
    with pytest.raises(ConfigError, match=rf"dataset.{key} must be left out for {name}, where it has no effect, got"):
        DatasetConfig(name=name, path=path, **{key: value})


@pytest.mark.parametrize("name", ["tiny_imagenet", "image_folder"])
def test_only_parquet_files_are_read_from_a_uri(name: str) -> None:
    with pytest.raises(ConfigError, match=f"dataset.path must be a local folder for {name}"):
        DatasetConfig(name=name, path="s3://bucket/folder")


@pytest.mark.parametrize("image_size", [0, -4, 30, 1028])
def test_an_image_size_that_no_generator_makes_is_refused(image_size: int) -> None:
    with pytest.raises(ConfigError, match=rf"dataset.image_size must be a multiple of 4 in 4\.\.1024, got {image_size}"):
        DatasetConfig(name="image_folder", path="x", image_size=image_size)


@pytest.mark.parametrize(
    ("mean", "std", "message"),
    [
        ((0.5, 0.5, 0.5), None, "dataset.std is missing: mean and std go together"),
        (None, (0.5, 0.5, 0.5), "dataset.mean is missing: mean and std go together"),
        ((0.5, 0.5), (0.5, 0.5), r"dataset.mean must be 1 or 3 numbers in \[0, 1\], one per channel, got \(0.5, 0.5\)"),
        ((0.5,), (0.5, 0.5, 0.5), r"dataset.std must be as many numbers as dataset.mean, 1, got \(0.5, 0.5, 0.5\)"),
        ((0.5, 0.5, 1.5), (0.5, 0.5, 0.5), "dataset.mean must be 1 or 3 numbers in"),
        ((0.5, 0.5, 0.5), (0.5, 0.5, 0.0), "dataset.std must be 1 or 3 numbers > 0, one per channel"),
        ((0.5, 0.5, 0.5), (0.5, 0.5, float("nan")), "dataset.std must be 1 or 3 numbers > 0"),
        ((0.5, 0.5, 0.5), (0.5, 0.5, float("inf")), "dataset.std must be 1 or 3 numbers > 0"),
    ],
)
def test_a_normalisation_has_a_mean_and_a_deviation_a_channel(mean, std, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        DatasetConfig(name="parquet", path="x", mean=mean, std=std)


def test_constants_go_with_the_channels_that_images_are_read_with() -> None:
    with pytest.raises(ConfigError, match=r"dataset.channels must be 1 or 3, got 2"):
        DatasetConfig(name="parquet", path="x", channels=2)
    with pytest.raises(ConfigError, match=r"dataset.mean must be 1 number in \[0, 1\], one per channel, got \(0.5, 0.5, 0.5\)"):
        DatasetConfig(name="parquet", path="x", channels=1, mean=(0.5,) * 3, std=(0.5,) * 3)
    with pytest.raises(ConfigError, match=r"dataset.mean must be 3 numbers in \[0, 1\], one per channel, got \(0.5,\)"):
        DatasetConfig(name="cifar10", path="x", mean=(0.5,), std=(0.5,))
    grey = DatasetConfig(name="parquet", path="x", mean=(0.1307,), std=(0.3081,))
    assert [grey.read_channels, DatasetConfig(name="parquet", path="x").read_channels] == [1, 3]


def test_what_decides_a_teachers_weights_beside_the_images_has_a_digest_of_its_own() -> None:
    plain = {"name": "image_folder", "path": "x"}
    given = {"mean": (0.5,), "std": (0.5,)}
    assert DatasetConfig(**plain).treatment == DatasetConfig(**plain, flip=True).treatment == ""
    digests = [DatasetConfig(**plain, **said).treatment for said in (given, {"flip": False}, given | {"flip": False})]
    assert len({*digests, ""}) == 4
    assert DatasetConfig(**plain, mean=(0,), std=(1,)).treatment == DatasetConfig(**plain, mean=(0.0,), std=(1.0,)).treatment


def test_grey_images_read_in_colour_lose_the_channels_that_repeat_the_first(shapes) -> None:
    train, test = (Split(split.images.expand(-1, 3, -1, -1), split.labels) for split in (shapes.train, shapes.test))
    coloured = replace(shapes, train=train, test=test, normalisation=Normalisation(mean=(0.2,) * 3, std=(0.3,) * 3))
    assert coloured.is_grey
    grey = coloured.in_one_channel()
    assert (grey.digest, grey.normalisation) == (shapes.digest, Normalisation(mean=(0.2,), std=(0.3,)))
    tinted = test.images.clone()
    tinted[-1, 2, 0, 0] ^= 1
    assert not replace(coloured, test=Split(tinted, test.labels)).is_grey


def test_the_number_of_classes_is_known_of_named_datasets_only() -> None:
    known = {"cifar10": 10, "cifar100": 100, "tiny_imagenet": 200, "image_folder": None, "parquet": None}
    assert {name: DatasetConfig(name=name, path="x").num_classes for name in known} == known
    assert DatasetConfig(name="digits").num_classes == 10
