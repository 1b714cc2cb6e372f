"""Datasets by name. Each is loaded whole; nothing is downloaded."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar, Literal

from cpsc.config import FORBID_UNKNOWN
from cpsc.data import cifar10, digits
from cpsc.data.dataset import Dataset, Normalisation, Split, augment
from cpsc.errors import ConfigError, DataError

__all__ = ["Dataset", "DatasetConfig", "Normalisation", "Split", "augment", "load_dataset"]

NUM_CLASSES = {"digits": 10, "cifar10": 10}


@dataclass(frozen=True, kw_only=True)
class DatasetConfig:
    """Which labelled images: `digits` ships with scikit-learn, every other dataset needs its folder in `path`."""

    __pydantic_config__: ClassVar[dict[str, Any]] = FORBID_UNKNOWN

    name: Literal["digits", "cifar10"]
    path: str | None = None

    def __post_init__(self) -> None:
        if self.name == "digits" and self.path is not None:
            raise ConfigError(f"dataset.path must be left out for digits, which scikit-learn ships, got {self.path!r}")
        if self.name != "digits" and self.path is None:
            raise ConfigError(f"dataset.path must name the folder of {self.name}: nothing is downloaded")


def load_dataset(config: DatasetConfig) -> Dataset:
    """Both parts of the dataset, on the CPU. Raises DataError where its files are missing or corrupt."""
    if config.name == "digits":
        return digits.load()
    assert config.path is not None  # checked on construction
    try:
        folder = Path(config.path).expanduser()
    except RuntimeError as error:
        raise DataError(f"dataset.path: {config.path!r} is not a folder's path ({error})") from error
    return cifar10.load(folder)
