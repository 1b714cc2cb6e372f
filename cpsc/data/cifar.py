"""What CIFAR-10 and CIFAR-100 (Krizhevsky 2009) share: reading Hugging Face's Parquet files or the original archive's folder."""

import pickle
from collections.abc import Mapping
from dataclasses import dataclass, field
from itertools import combinations
from pathlib import Path
from typing import Any

import numpy as np
import torch

from cpsc.data.dataset import Dataset, Normalisation, Split, check_size
from cpsc.data.decoding import OnFile, Say, nobody_listens, nobody_watches
from cpsc.data.labels import class_number
from cpsc.data.litter import HEAD_BYTES, stand_in
from cpsc.data.parquet import read_split
from cpsc.data.parquet_storage import ParquetFolder
from cpsc.errors import DataError

IMAGE_SIZE = 32
NUM_IMAGES = {"train": 50_000, "test": 10_000}
"""The same for both datasets."""


@dataclass(frozen=True, kw_only=True)
class Edition:
    """Layout and content of one of the two datasets."""

    name: str
    title: str
    archive_folder: str
    train_files: tuple[str, ...]
    test_file: str
    labels_key: str
    classes: tuple[str, ...]
    normalisation: Normalisation
    misspelt: Mapping[str, str] = field(default_factory=dict)
    """Class names in the Parquet files that are not spelt as in the archive."""


def load(edition: Edition, location: str | Path, *, on_file: OnFile = nobody_watches, say: Say = nobody_listens) -> Dataset:
    """Load both parts from `location`: a folder or, for Parquet files, also a URI that `pyarrow.fs` knows.

    Raises DataError if files are missing, duplicated or corrupt. `say` is told how many images are missing. Nothing is
    downloaded.
    """
    folder = ParquetFolder.at(location)
    where = f"dataset {edition.name}: {folder}"
    if not folder.is_there():
        raise DataError(f"{where} is not a folder; point dataset.path at the Parquet files or the archive")
    if folder.files("train"):
        train, test = (_read_parquet(edition, folder, part, on_file, say) for part in ("train", "test"))
    elif folder.is_local:
        train, test = _read_archive(edition, Path(folder.root), where)
    else:
        raise DataError(f"{where} holds no train-*.parquet; the original archive can only be read from a local folder")
    for part, split in (("train", train), ("test", test)):
        check_size(edition.name, part, len(split), NUM_IMAGES[part], say)
    return Dataset(
        name=edition.name,
        train=train,
        test=test,
        class_names=edition.classes,
        normalisation=edition.normalisation,
        crop_padding=4,
        flip=True,
    )


def _read_parquet(edition: Edition, folder: ParquetFolder, part: str, on_file: OnFile, say: Say) -> Split:
    files = folder.files(part, say=say)
    if not files:
        raise DataError(f"dataset {edition.name}: {folder} holds no {part}-*.parquet")
    split, names = read_split(files, exactly=IMAGE_SIZE, on_file=on_file, say=say)
    if names and tuple(edition.misspelt.get(name, name) for name in names) != edition.classes:
        raise DataError(f"{files[0]}: its classes are {', '.join(names[:3])}, ..., not those of {edition.title}")
    return split


def _read_archive(edition: Edition, folder: Path, where: str) -> tuple[Split, Split]:
    batches = folder if folder.name == edition.archive_folder else folder / edition.archive_folder
    if not batches.is_dir():
        raise DataError(f"{where} holds neither train-*.parquet nor {edition.archive_folder}/")
    names = (*edition.train_files, edition.test_file)
    splits = [_read_batch(batches / name, edition) for name in names]
    for (name, split), (other, another) in combinations(zip(names, splits, strict=True), 2):
        if torch.equal(split.images, another.images):
            raise DataError(f"{batches / other}: holds the same images as {name}, unpack the archive again")
    *train, test = splits
    return Split(torch.cat([split.images for split in train]), torch.cat([split.labels for split in train])), test


class _ArraysOnly(pickle.Unpickler):
    """Reads the pickled batches of the archive: accepts arrays, lists and strings, and refuses anything that would run code."""

    ALLOWED = frozenset(
        (module, name)
        for package in ("numpy.core", "numpy._core")
        for module, name in ((f"{package}.multiarray", "_reconstruct"), (f"{package}.numeric", "_frombuffer"))
    ) | {("numpy", "ndarray"), ("numpy", "dtype"), ("_codecs", "encode")}

    def find_class(self, module: str, name: str) -> Any:
        if (module, name) not in self.ALLOWED:
            raise pickle.UnpicklingError(f"refuses {module}.{name}")
        return super().find_class(module.replace("numpy.core", "numpy._core"), name)


def _read_batch(file: Path, edition: Edition) -> Split:
    try:
        with file.open("rb") as handle:
            batch = _ArraysOnly(handle, encoding="bytes").load()
        fields = {key.decode() if isinstance(key, bytes) else key: value for key, value in batch.items()}
        images = _bytes(np.asarray(fields["data"])).reshape(-1, 3, IMAGE_SIZE, IMAGE_SIZE)
        labels = [class_number(label) for label in fields[edition.labels_key]]
        if len(images) != len(labels):
            raise ValueError(f"{len(images)} images, {len(labels)} labels")
        return Split(torch.from_numpy(images), torch.tensor(labels, dtype=torch.int64))
    except OSError as error:
        raise DataError(f"{file}: cannot be read ({error.strerror})") from error
    except Exception as error:  # a corrupt pickle may fail in any way
        with file.open("rb") as handle:
            instead = stand_in(handle.read(HEAD_BYTES))
        raise DataError(f"{file}: not a {edition.title} batch ({instead or f'corrupt or of another kind: {error}'})") from error


def _bytes(pixels: np.ndarray) -> np.ndarray:
    """`pixels` as bytes; ValueError if they do not fit into bytes, because NumPy would truncate them silently."""
    cut = pixels.astype(np.uint8, casting="unsafe") if pixels.dtype.kind in "iub" else None
    if cut is None or not np.array_equal(cut, pixels):
        raise ValueError(f"pixels must be whole numbers in 0..255, got {pixels.dtype}")
    return cut
