"""Datasets by name. Each is loaded whole; nothing is downloaded."""

import math
from collections.abc import Callable
from dataclasses import asdict, dataclass, fields, replace
from pathlib import Path
from typing import Any, ClassVar, Literal, NamedTuple

import torch

from cpsc.data import cifar10, cifar100, digits, image_folder, parquet, tiny_imagenet
from cpsc.data.dataset import Dataset, Normalisation, Split, augment
from cpsc.data.decoding import COLOUR, MODES, OnFile, Say, nobody_listens, nobody_watches
from cpsc.data.labels import say_absent
from cpsc.digests import recipe_digest
from cpsc.errors import ConfigError, DataError
from cpsc.kinds import of_stated_kinds
from cpsc.rules import FORBID_UNKNOWN, require

__all__ = ["Dataset", "DatasetConfig", "Normalisation", "Split", "augment", "load_dataset"]

NUM_CLASSES = {"digits": 10, "cifar10": 10, "cifar100": 100, "tiny_imagenet": tiny_imagenet.NUM_CLASSES}
"""Number of classes of the datasets for which it is fixed; for others the files tell."""


class Extent(NamedTuple):
    """Shape and number of a dataset's images."""

    channels: int
    image_size: int
    num_train: int
    num_test: int


EXTENTS = {
    "digits": Extent(1, digits.IMAGE_SIZE, 1297, 500),
    "cifar10": Extent(COLOUR, 32, 50_000, 10_000),
    "cifar100": Extent(COLOUR, 32, 50_000, 10_000),
    "tiny_imagenet": Extent(COLOUR, tiny_imagenet.IMAGE_SIZE, 100_000, 10_000),
}
"""Extents of the same datasets if they are complete."""

MAX_IMAGE_SIZE = 1024

_FIXED: dict[str, Callable[..., Dataset]] = {
    "cifar10": cifar10.load,
    "cifar100": cifar100.load,
    "tiny_imagenet": tiny_imagenet.load,
}
_ANY_IMAGES: dict[str, Callable[..., Dataset]] = {"image_folder": image_folder.load, "parquet": parquet.load}
_FROM_FILES = (*_FIXED, *_ANY_IMAGES)
_FROM_URIS = ("cifar10", "cifar100", "parquet")
_PARQUET_NAMES = tuple(item.name for item in fields(parquet.ParquetNames))
_HAS_EFFECT_FOR = {
    "path": _FROM_FILES,
    "mean": _FROM_FILES,
    "std": _FROM_FILES,
    "image_size": tuple(_ANY_IMAGES),
    "flip": tuple(_ANY_IMAGES),
    "channels": tuple(_ANY_IMAGES),
    **dict.fromkeys(_PARQUET_NAMES, ("parquet",)),
}


@dataclass(frozen=True, kw_only=True)
@of_stated_kinds("dataset")
class DatasetConfig:
    """Which labelled images to use: `digits` comes with scikit-learn, every other dataset needs its folder in `path`."""

    __pydantic_config__: ClassVar[dict[str, Any]] = FORBID_UNKNOWN

    name: Literal["digits", "cifar10", "cifar100", "tiny_imagenet", "image_folder", "parquet"]
    path: str | None = None
    """A folder; for Parquet files also a URI that `pyarrow.fs` knows, e.g. s3://bucket/folder."""
    image_size: int | None = None
    """For image_folder and parquet: the size, in pixels, that images are resized to; None: all must have the same size."""
    channels: int | None = None
    """For image_folder and parquet: read images with 1 channel (grey) or 3 (colour). None: as many as `mean` has, else 3; if all
    images are grey and the teacher, from a file, takes one channel, they are then reduced to one."""
    mean: tuple[float, ...] | None = None
    """Mean of red, green and blue, or of grey, pixels in [0, 1], if the teacher was trained with other values than the default."""
    std: tuple[float, ...] | None = None
    """Goes with `mean`. Without both, image_folder and parquet measure them on the training part."""
    flip: bool | None = None
    """For image_folder and parquet: whether a mirror image keeps its label; None: it does."""
    image_column: str | None = None
    """For parquet: the column with the images; None: img or image."""
    label_column: str | None = None
    """For parquet: the column with the class numbers; None: label, fine_label, labels or target."""
    train_split: str | None = None
    """For parquet: what the file names of the training part begin with; None: train."""
    test_split: str | None = None
    """For parquet: what the file names of the test part begin with; None: test, val, valid or validation."""

    def __post_init__(self) -> None:
        if self.name == "digits" and self.path is not None:
            raise ConfigError(f"dataset.path must be left out for digits, which come with scikit-learn, got {self.path!r}")
        for key, names in _HAS_EFFECT_FOR.items():
            value = getattr(self, key)
            if value is not None and self.name not in names:
                raise ConfigError(f"dataset.{key} must be left out for {self.name}, where it has no effect, got {value!r}")
        if self.name != "digits" and not self.path:
            raise ConfigError(f"dataset.path must name the folder of {self.name}: nothing is downloaded")
        if self.path and "://" in self.path and self.name not in _FROM_URIS:
            raise ConfigError(f"dataset.path must be a local folder for {self.name}, only Parquet files are read from a URI")
        if (size := self.image_size) is not None:
            require(
                4 <= size <= MAX_IMAGE_SIZE and size % 4 == 0, "dataset.image_size", size, f"a multiple of 4 in 4..{MAX_IMAGE_SIZE}"
            )
        require(self.channels in (None, *MODES), "dataset.channels", self.channels, " or ".join(map(str, MODES)))
        for key in _PARQUET_NAMES:
            value = getattr(self, key)
            require(value is None or (value.isprintable() and value.strip("./ ") != ""), f"dataset.{key}", value, "a name")
        if self.train_split is not None or self.test_split is not None:
            same = (self.train_split or parquet.TRAIN_PART) == self.test_split
            require(not same, "dataset.test_split", self.test_split, "another part than dataset.train_split")
        self._check_normalisation()

    def _check_normalisation(self) -> None:
        if (self.mean is None) != (self.std is None):
            raise ConfigError(f"dataset.{'std' if self.std is None else 'mean'} is missing: mean and std go together")
        wanted = self._possible_channels
        for key, values, holds, rule in (
            ("mean", self.mean, lambda value: 0 <= value <= 1, "in [0, 1]"),
            ("std", self.std, lambda value: 0 < value < math.inf, "> 0"),
        ):
            if values is not None:
                number = " or ".join(map(str, wanted))
                fits = len(values) in wanted and all(map(holds, values))
                require(fits, f"dataset.{key}", values, f"{number} number{'s' * (number != '1')} {rule}, one per channel")
        if self.mean is not None and self.std is not None:
            require(len(self.mean) == len(self.std), "dataset.std", self.std, f"as many numbers as dataset.mean, {len(self.mean)}")

    @property
    def _possible_channels(self) -> tuple[int, ...]:
        if self.channels is not None:
            return (self.channels,)
        return tuple(MODES) if self.name in _ANY_IMAGES else (COLOUR,)

    @property
    def parquet_names(self) -> parquet.ParquetNames:
        """The names of columns and parts, if they are not the usual ones."""
        return parquet.ParquetNames(**{key: getattr(self, key) for key in _PARQUET_NAMES})

    @property
    def read_channels(self) -> int:
        """Number of channels that image_folder and parquet are read with."""
        return self.channels or (len(self.mean) if self.mean else COLOUR)

    @property
    def treatment(self) -> str:
        """Digest of the settings for normalisation and mirror images; empty if the dataset's own are used."""
        said: dict[str, Any] = asdict(self.normalisation) if self.normalisation else {}
        said |= {"flip": False} if self.flip is False else {}
        return recipe_digest(said) if said else ""

    @property
    def num_classes(self) -> int | None:
        """Number of classes, if it is known before the files are read."""
        return NUM_CLASSES.get(self.name)

    @property
    def extent(self) -> Extent | None:
        """Extent of its images, if it is known before the files are read."""
        return EXTENTS.get(self.name)

    @property
    def normalisation(self) -> Normalisation | None:
        """The requested normalisation; None: the dataset's own."""
        if self.mean is None or self.std is None:
            return None
        return Normalisation(mean=tuple(map(float, self.mean)), std=tuple(map(float, self.std)))


def load_dataset(
    config: DatasetConfig,
    *,
    on_file: OnFile = nobody_watches,
    say: Say = nobody_listens,
) -> Dataset:
    """Load both parts of the dataset, on the CPU. Raises DataError if its files are missing or corrupt.

    `on_file` counts the images of one part, then of the other. `say` receives remarks on decisions that the config does not make,
    and on what was left out.
    """
    if config.name == "digits":
        return digits.load()
    assert config.path is not None  # checked on construction
    location = config.path if "://" in config.path else _folder(config.path)
    chosen = config.normalisation
    if config.name in _FIXED:
        dataset = _FIXED[config.name](location, on_file=on_file, say=say)
        dataset = replace(dataset, normalisation=chosen or dataset.normalisation)
    else:
        said = {"names": config.parquet_names} if config.name == "parquet" else {}
        dataset = _ANY_IMAGES[config.name](
            location,
            image_size=config.image_size,
            normalisation=chosen,
            flip=config.flip is not False,
            channels=config.read_channels,
            **said,
            on_file=on_file,
            say=say,
        )
        if chosen is None:
            mean, std = list(dataset.normalisation.mean), list(dataset.normalisation.std)
            say(f"dataset {config.name}: mean {mean} and std {std}, measured on its {len(dataset.train)} training images")
            if config.channels is None and dataset.is_grey:
                say(f"dataset {config.name}: all its images are grey; set dataset.channels to 1, or they have three equal channels")
    if torch.equal(dataset.train.images, dataset.test.images):
        say(f"dataset {config.name}: both parts hold the same images, so the test uses the training images")
    for part, split in (("train", dataset.train), ("test", dataset.test)):
        say_absent(f"dataset {config.name}: the {part} part", split.labels, dataset.class_names, say)
    return replace(dataset, treatment=config.treatment)


def _folder(path: str) -> Path:
    try:
        return Path(path).expanduser()
    except RuntimeError as error:
        raise DataError(f"dataset.path: {path!r} is not the path of a folder ({error})") from error
