"""CIFAR-100 (Krizhevsky 2009) with its 100 fine labels, 32 px."""

from pathlib import Path

from cpsc.data import cifar
from cpsc.data.dataset import Dataset, Normalisation
from cpsc.data.decoding import OnFile, Say, nobody_listens, nobody_watches

NORMALISATION = Normalisation(mean=(0.5071, 0.4867, 0.4408), std=(0.2675, 0.2565, 0.2761))

_NAMES = """
    apple aquarium_fish baby bear beaver bed bee beetle bicycle bottle bowl boy bridge bus butterfly camel can castle
    caterpillar cattle chair chimpanzee clock cloud cockroach couch crab crocodile cup dinosaur dolphin elephant flatfish
    forest fox girl hamster house kangaroo keyboard lamp lawn_mower leopard lion lizard lobster man maple_tree motorcycle
    mountain mouse mushroom oak_tree orange orchid otter palm_tree pear pickup_truck pine_tree plain plate poppy porcupine
    possum rabbit raccoon ray road rocket rose sea seal shark shrew skunk skyscraper snail snake spider squirrel streetcar
    sunflower sweet_pepper table tank telephone television tiger tractor train trout tulip turtle wardrobe whale willow_tree
    wolf woman worm
"""
CLASSES = tuple(_NAMES.split())
EDITION = cifar.Edition(
    name="cifar100",
    title="CIFAR-100",
    archive_folder="cifar-100-python",
    train_files=("train",),
    test_file="test",
    labels_key="fine_labels",
    classes=CLASSES,
    normalisation=NORMALISATION,
    misspelt={"cra": "crab"},
)


def load(location: str | Path, *, on_file: OnFile = nobody_watches, say: Say = nobody_listens) -> Dataset:
    """Load ``train-*.parquet`` and ``test-*.parquet``, or ``cifar-100-python`` in torchvision's layout: see `cifar.load`."""
    return cifar.load(EDITION, location, on_file=on_file, say=say)
