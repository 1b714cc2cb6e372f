"""Images in a folder a class, at any depth below it: ``train/<class>/*`` as well as ``train/<class>/images/*``."""

from pathlib import Path

import torch

from cpsc.data.dataset import Split
from cpsc.data.decoding import OnFile, decode_images, nobody_watches
from cpsc.errors import DataError

SUFFIXES = frozenset({".png", ".jpg", ".jpeg", ".bmp", ".gif", ".ppm", ".pgm", ".tif", ".tiff", ".webp"})


def read_class_names(folder: Path) -> tuple[str, ...]:
    """The names of the folders in `folder`, sorted; those that begin with a dot are nobody's class."""
    try:
        names = sorted(entry.name for entry in folder.iterdir() if entry.is_dir() and not entry.name.startswith("."))
    except OSError as error:
        raise DataError(f"{folder}: cannot be read ({error.strerror})") from error
    if not names:
        raise DataError(f"{folder}: holds no folders, it must have one a class")
    return tuple(names)


def find_images(folder: Path) -> list[Path]:
    """The image files in `folder` and below, sorted; hidden ones left out."""
    found = folder.rglob("*")
    return sorted(path for path in found if path.suffix.lower() in SUFFIXES and not path.name.startswith("."))


def read_split(
    folder: Path,
    classes: tuple[str, ...],
    *,
    exactly: int | None = None,
    resize_to: int | None = None,
    on_file: OnFile = nobody_watches,
) -> Split:
    """All images below `folder`, by class and name; a label is the place of its folder's name in `classes`.

    Raises DataError for a folder that is none of `classes`, an empty one, or an image that cannot be read or does not fit.
    """
    files: list[Path] = []
    labels: list[int] = []
    for name in read_class_names(folder):
        if name not in classes:
            raise DataError(f"{folder / name}: is none of the {len(classes)} classes of the training part")
        found = find_images(folder / name)
        if not found:
            raise DataError(f"{folder / name}: holds no image ({', '.join(sorted(SUFFIXES))})")
        files += found
        labels += [classes.index(name)] * len(found)
    return decode_files(files, labels, exactly=exactly, resize_to=resize_to, on_file=on_file)


def decode_files(
    files: list[Path],
    labels: list[int],
    *,
    exactly: int | None = None,
    resize_to: int | None = None,
    on_file: OnFile = nobody_watches,
) -> Split:
    """The images of `files`, each with its label."""
    images = decode_images(files, lambda index: str(files[index]), exactly=exactly, resize_to=resize_to, on_file=on_file)
    return Split(images, torch.tensor(labels, dtype=torch.int64))
