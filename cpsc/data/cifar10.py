"""CIFAR-10 (Krizhevsky 2009) from Hugging Face's Parquet files or from the original archive's folder."""

import pickle
from pathlib import Path
from typing import Any

import numpy as np
import torch

from cpsc.data import parquet
from cpsc.data.dataset import Dataset, Normalisation, Split
from cpsc.errors import DataError

CLASSES = ("airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck")
NORMALISATION = Normalisation(mean=(0.4914, 0.4822, 0.4465), std=(0.2023, 0.1994, 0.2010))
BATCHES_FOLDER = "cifar-10-batches-py"
TRAIN_BATCHES = tuple(f"data_batch_{index}" for index in range(1, 6))


def load(folder: Path) -> Dataset:
    """Both parts from `folder`: ``train-*.parquet`` and ``test-*.parquet``, or ``cifar-10-batches-py`` as torchvision lays it.

    Raises DataError where neither is there or a file is corrupt. Nothing is downloaded.
    """
    if not folder.is_dir():
        raise DataError(f"dataset cifar10: {folder} is no folder; point dataset.path at the Parquet files or the archive")
    if parquet.find_files(folder, "train"):
        train, test = _read_parquet(folder, "train"), _read_parquet(folder, "test")
    else:
        batches = folder if folder.name == BATCHES_FOLDER else folder / BATCHES_FOLDER
        if not batches.is_dir():
            raise DataError(f"dataset cifar10: {folder} holds neither train-*.parquet nor {BATCHES_FOLDER}/")
        train = _read_batches([batches / name for name in TRAIN_BATCHES])
        test = _read_batches([batches / "test_batch"])
    return Dataset(
        name="cifar10",
        train=train,
        test=test,
        class_names=CLASSES,
        normalisation=NORMALISATION,
        crop_padding=4,
        flip=True,
    )


def _read_parquet(folder: Path, part: str) -> Split:
    files = parquet.find_files(folder, part)
    if not files:
        raise DataError(f"dataset cifar10: {folder} holds no {part}-*.parquet")
    split, names = parquet.read_split(files)
    if names and names != CLASSES:
        raise DataError(f"{files[0]}: its classes are {', '.join(names[:3])}, ..., not CIFAR-10's")
    return split


class _ArraysOnly(pickle.Unpickler):
    """The archive's batches are pickles: this reads arrays, lists and strings, and refuses whatever would run code."""

    ALLOWED = frozenset(
        (module, name)
        for package in ("numpy.core", "numpy._core")
        for module, name in ((f"{package}.multiarray", "_reconstruct"), (f"{package}.numeric", "_frombuffer"))
    ) | {("numpy", "ndarray"), ("numpy", "dtype"), ("_codecs", "encode")}

    def find_class(self, module: str, name: str) -> Any:
        if (module, name) not in self.ALLOWED:
            raise pickle.UnpicklingError(f"refuses {module}.{name}")
        return super().find_class(module.replace("numpy.core", "numpy._core"), name)


def _read_batches(files: list[Path]) -> Split:
    images, labels = [], []
    for file in files:
        try:
            with file.open("rb") as handle:
                batch = _ArraysOnly(handle, encoding="bytes").load()
            fields = {key.decode() if isinstance(key, bytes) else key: value for key, value in batch.items()}
            images.append(np.asarray(fields["data"], dtype=np.uint8).reshape(-1, 3, 32, 32))
            labels += [int(label) for label in fields["labels"]]
            if len(images[-1]) != len(fields["labels"]):
                raise ValueError(f"{len(images[-1])} images, {len(fields['labels'])} labels")
        except OSError as error:
            raise DataError(f"{file}: cannot be read ({error.strerror})") from error
        except Exception as error:  # a corrupt pickle fails in any way its damaged operations do
            raise DataError(f"{file}: not a CIFAR-10 batch (corrupt or of another kind: {error})") from error
    return Split(torch.from_numpy(np.concatenate(images)), torch.tensor(labels, dtype=torch.int64))
