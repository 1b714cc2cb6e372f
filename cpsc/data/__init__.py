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
"""Of those that are always the same; of others the files tell."""


class Extent(NamedTuple):
    """What a dataset's images are, and how many there are of them."""

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
"""Of the same ones, where nothing of them is missing."""

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
    """Which labelled images: `digits` ships with scikit-learn, every other dataset needs its folder in `path`."""

    __pydantic_config__: ClassVar[dict[str, Any]] = FORBID_UNKNOWN

    name: Literal["digits", "cifar10", "cifar100", "tiny_imagenet", "image_folder", "parquet"]
    path: str | None = None
    """A folder; for Parquet files also a URI that `pyarrow.fs` knows, e.g. s3://bucket/folder."""
    image_size: int | None = None
    """What image_folder and parquet bring images of several sizes to, in pixels; None: they must be alike."""
    channels: int | None = None
    """What image_folder and parquet read images as: 1, grey, or 3, coloured. None: as many as `mean` has, else 3; images that
    are grey then lose the two that are equal where the teacher, from a file, takes one."""
    mean: tuple[float, ...] | None = None
    """Of red, green and blue, or grey, pixels in [0, 1], for a teacher that was trained with others than the dataset's own."""
    std: tuple[float, ...] | None = None
    """Goes with `mean`. Without both, image_folder and parquet measure them on the training part."""
    flip: bool | None = None
    """Whether a mirror image keeps its label, for image_folder and parquet; None: it does."""
    image_column: str | None = None
    """For parquet: the column with the images; None: img or image."""
    label_column: str | None = None
    """For parquet: the column with the classes' numbers; None: label, fine_label, labels or target."""
    train_split: str | None = None
    """For parquet: what the files of the part that a teacher trains on begin with; None: train."""
    test_split: str | None = None
    """For parquet: the same of the part that is tested on; None: test, val, valid or validation."""

    def __post_init__(self) -> None:
        if self.name == "digits" and self.path is not None:
            raise ConfigError(f"dataset.path must be left out for digits, which scikit-learn ships, got {self.path!r}")
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
                require(fits, f"dataset.{key}", values, f"{number} number{'s' * (number != '1')} {rule}, one a channel")
        if self.mean is not None and self.std is not None:
            require(len(self.mean) == len(self.std), "dataset.std", self.std, f"as many numbers as dataset.mean, {len(self.mean)}")

    @property
    def _possible_channels(self) -> tuple[int, ...]:
        if self.channels is not None:
            return (self.channels,)
        return tuple(MODES) if self.name in _ANY_IMAGES else (COLOUR,)

    @property
    def parquet_names(self) -> parquet.ParquetNames:
        """What columns and parts are called where they are not called as usual."""
        return parquet.ParquetNames(**{key: getattr(self, key) for key in _PARQUET_NAMES})

    @property
    def read_channels(self) -> int:
        """With how many channels image_folder and parquet are read."""
        return self.channels or (len(self.mean) if self.mean else COLOUR)

    @property
    def treatment(self) -> str:
        """Digest of what is said of normalisation and mirror images; empty where the dataset's own is taken."""
        said: dict[str, Any] = asdict(self.normalisation) if self.normalisation else {}
        said |= {"flip": False} if self.flip is False else {}
        return recipe_digest(said) if said else ""

    @property
    def num_classes(self) -> int | None:
        """Where it is known before the files are read."""
        return NUM_CLASSES.get(self.name)

    @property
    def extent(self) -> Extent | None:
        """The same of its images."""
        return EXTENTS.get(self.name)

    @property
    def normalisation(self) -> Normalisation | None:
        """The one asked for; None: the dataset's own."""
        if self.mean is None or self.std is None:
            return None
        return Normalisation(mean=tuple(map(float, self.mean)), std=tuple(map(float, self.std)))


def load_dataset(
    config: DatasetConfig,
    *,
    on_file: OnFile = nobody_watches,
    say: Say = nobody_listens,
) -> Dataset:
    """Both parts of the dataset, on the CPU. Raises DataError where its files are missing or corrupt.

    `on_file` counts the images of one part, then of the other; `say` gets what was decided here and not by the config, and
    what was left out.
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
                say(f"dataset {config.name}: all its images are grey, and have three equal channels unless dataset.channels is 1")
    if torch.equal(dataset.train.images, dataset.test.images):
        say(f"dataset {config.name}: both parts hold the same images, so what is tested is what was trained on")
    for part, split in (("train", dataset.train), ("test", dataset.test)):
        say_absent(f"dataset {config.name}: the {part} part", split.labels, dataset.class_names, say)
    return replace(dataset, treatment=config.treatment)


def _folder(path: str) -> Path:
    try:
        return Path(path).expanduser()
    except RuntimeError as error:
        raise DataError(f"dataset.path: {path!r} is not a folder's path ({error})") from error
