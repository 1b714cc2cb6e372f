"""CIFAR-10 (Krizhevsky 2009): 10 classes, 32 px."""

from pathlib import Path

from cpsc.data import cifar
from cpsc.data.dataset import Dataset, Normalisation
from cpsc.data.decoding import OnFile, Say, nobody_listens, nobody_watches

NORMALISATION = Normalisation(mean=(0.4914, 0.4822, 0.4465), std=(0.2023, 0.1994, 0.2010))

CLASSES = ("airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck")
EDITION = cifar.Edition(
    name="cifar10",
    title="CIFAR-10",
    archive_folder="cifar-10-batches-py",
    train_files=tuple(f"data_batch_{index}" for index in range(1, 6)),
    test_file="test_batch",
    labels_key="labels",
    classes=CLASSES,
    normalisation=NORMALISATION,
)


def load(location: str | Path, *, on_file: OnFile = nobody_watches, say: Say = nobody_listens) -> Dataset:
    """Load ``train-*.parquet`` and ``test-*.parquet``, or ``cifar-10-batches-py`` in torchvision's layout: see `cifar.load`."""
    return cifar.load(EDITION, location, on_file=on_file, say=say)
