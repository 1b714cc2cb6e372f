"""Reads any labelled images in folders: ``train/<class>/*`` and ``test/<class>/*`` or ``val/<class>/*``."""

from pathlib import Path

from cpsc.data import class_folders
from cpsc.data.dataset import TEST_PARTS, Dataset, Normalisation, of_any_images
from cpsc.data.decoding import COLOUR, OnFile, Say, nobody_listens, nobody_watches
from cpsc.errors import DataError


def load(
    location: str | Path,
    *,
    image_size: int | None = None,
    normalisation: Normalisation | None = None,
    flip: bool = True,
    channels: int = COLOUR,
    on_file: OnFile = nobody_watches,
    say: Say = nobody_listens,
) -> Dataset:
    """Load both parts. Classes are the sorted names of the folders in ``train``; the test part is the first of `TEST_PARTS` found.

    Images of several sizes need an `image_size`: see `decode_images`, also for `channels`. A `normalisation` of None is measured
    on the training part. Raises DataError if a part is missing or an image cannot be read. `say` is told what is not read.
    Nothing is downloaded.
    """
    folder = Path(location)
    parts = [folder / part for part in TEST_PARTS if (folder / part).is_dir()]
    train_folder = folder / "train"
    if not train_folder.is_dir() or not parts:
        raise DataError(
            f"dataset image_folder: {folder} must hold train/ and {'/ or '.join(TEST_PARTS[:2])}/, each with one folder per class"
        )
    test_folder, *unread = parts
    if test_folder.resolve() == train_folder.resolve():
        raise DataError(f"{test_folder}: is the same folder as {train_folder}, but a teacher must be tested on other images")
    if unread:
        say(f"{folder}: ignores {', '.join(f'{part.name}/' for part in unread)}, because the test part is {test_folder.name}/")
    classes = class_folders.read_class_names(train_folder)
    train, test = (
        class_folders.read_split(part, classes, resize_to=image_size, channels=channels, on_file=on_file, say=say)
        for part in (train_folder, test_folder)
    )
    return of_any_images("image_folder", train, test, classes, normalisation, flip=flip)
