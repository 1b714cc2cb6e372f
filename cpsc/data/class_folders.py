"""Reads images with one folder per class, at any depth below it: ``train/<class>/*`` as well as ``train/<class>/images/*``."""

import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch

from cpsc.data.dataset import Split
from cpsc.data.decoding import COLOUR, OnFile, Say, decode_images, nobody_listens, nobody_watches
from cpsc.data.litter import is_litter
from cpsc.errors import DataError

SUFFIXES = frozenset({".png", ".jpg", ".jpeg", ".jpe", ".jfif", ".bmp", ".gif", ".ppm", ".pgm", ".tif", ".tiff", ".webp"})
NOTES = frozenset({".txt", ".md", ".rst", ".json", ".csv", ".tsv", ".xml", ".yaml", ".yml", ".html", ".log", ".py", ".db", ".ini"})
"""Suffixes of files that describe images and are never mistaken for them."""


@dataclass(frozen=True)
class _Found:
    """A file below a folder."""

    path: Path
    is_linked: bool
    """Whether it was reached through a link, to it or to a folder above it."""

    @property
    def is_image(self) -> bool:
        return self.path.suffix.lower() in SUFFIXES


def read_class_names(folder: Path) -> tuple[str, ...]:
    """The names of the folders in `folder`, sorted, except hidden and system folders."""
    try:
        names = sorted(entry.name for entry in folder.iterdir() if entry.is_dir() and not is_litter(entry.name))
    except OSError as error:
        raise DataError(f"{folder}: cannot be read ({error.strerror})") from error
    if not names:
        raise DataError(f"{folder}: holds no folders, it must have one per class")
    return tuple(names)


def find_images(folder: Path) -> list[Path]:
    """The image files in `folder` and below, sorted, except hidden and system files."""
    return sorted(file.path for file in _walk(folder) if file.is_image)


def read_split(
    folder: Path,
    classes: tuple[str, ...],
    *,
    exactly: int | None = None,
    resize_to: int | None = None,
    channels: int = COLOUR,
    on_file: OnFile = nobody_watches,
    say: Say = nobody_listens,
) -> Split:
    """Read all images below `folder`, by class and name; a label is the index of the folder's name in `classes`.

    An image that is also reached through a link counts once. Raises DataError for a folder that is not in `classes`, an empty
    folder, a link to an image of another class, or an image that cannot be read or has the wrong size. `say` is told what is
    ignored.
    """
    found: list[tuple[_Found, int]] = []
    for name in read_class_names(folder):
        if name not in classes:
            raise DataError(f"{folder / name}: is not one of the {len(classes)} classes of the training part")
        inside = sorted(_walk(folder / name, is_linked=(folder / name).is_symlink()), key=lambda file: file.path)
        if not any(file.is_image for file in inside):
            raise DataError(f"{folder / name}: holds no image ({', '.join(sorted(SUFFIXES))})")
        found += [(file, classes.index(name)) for file in inside]
    _say_left_out(folder, [file.path for file, _ in found if not file.is_image], say)
    counted = _once(folder, [(file, label) for file, label in found if file.is_image], say)
    _say_nested(folder, [file.path for file, _ in counted], say)
    files, labels = [file.path for file, _ in counted], [label for _, label in counted]
    return decode_files(files, labels, exactly=exactly, resize_to=resize_to, channels=channels, on_file=on_file, say=say)


def decode_files(
    files: list[Path],
    labels: list[int],
    *,
    exactly: int | None = None,
    resize_to: int | None = None,
    channels: int = COLOUR,
    on_file: OnFile = nobody_watches,
    say: Say = nobody_listens,
) -> Split:
    """Decode `files`, each with its label."""
    images = decode_images(
        files, lambda index: str(files[index]), exactly=exactly, resize_to=resize_to, channels=channels, on_file=on_file, say=say
    )
    return Split(images, torch.tensor(labels, dtype=torch.int64))


def _walk(folder: Path, *, is_linked: bool = False) -> Iterator[_Found]:
    """Every file in `folder` and below that is not hidden; links are followed, except to a folder that contains them."""
    try:
        entries = list(os.scandir(folder))
    except OSError as error:
        raise DataError(f"{folder}: cannot be read ({error.strerror})") from error
    for entry in entries:
        if is_litter(entry.name):
            continue
        path = Path(entry.path)
        if not entry.is_dir():
            if not entry.is_file() and not entry.is_symlink():
                continue  # a pipe or a socket, which cannot be read to the end
            yield _Found(path, is_linked or entry.is_symlink())
        elif not (entry.is_symlink() and folder.resolve().is_relative_to(path.resolve())):
            yield from _walk(path, is_linked=is_linked or entry.is_symlink())


def _once(folder: Path, images: list[tuple[_Found, int]], say: Say) -> list[tuple[_Found, int]]:
    """`images` without links to others of them; DataError if a link has another label than its image."""
    if not any(file.is_linked for file, _ in images):
        return images
    owners = {file.path.resolve(): (file.path, label) for file, label in images if not file.is_linked}
    twice: list[Path] = []
    counted = []
    for file, label in images:
        owner, owners_label = owners.get(file.path.resolve(), (file.path, label)) if file.is_linked else (file.path, label)
        if owners_label != label:
            raise DataError(f"{file.path}: is a link to {owner}, which belongs to another class: an image has one class")
        if owner == file.path:
            counted.append((file, label))
        else:
            twice.append(file.path)
    if twice:
        say(f"{folder}: ignores {_files(twice)} linked to another of its images, e.g. {_relative(twice, folder)}")
    return counted


def _say_left_out(folder: Path, others: Sequence[Path], say: Say) -> None:
    """Tell `say` about ignored files that may be images: by their ending, or because they are outside of the class folders."""
    left = [path for path in others if path.suffix.lower() not in NOTES]
    if left:
        say(f"{folder}: ignores {_files(left)} without an image file's ending, e.g. {_relative(left, folder)}")
    if outside := sorted(path for path in folder.iterdir() if path.suffix.lower() in SUFFIXES and not is_litter(path.name)):
        say(f"{folder}: ignores {_files(outside)} outside of the class folders, e.g. {_relative(outside, folder)}")


def _say_nested(folder: Path, images: Sequence[Path], say: Say) -> None:
    """Tell `say` about folders inside a class folder, which may have been meant as classes."""
    parts: dict[str, set[str]] = {}
    for path in images:
        name, *inner = path.relative_to(folder).parts[:-1]
        parts.setdefault(name, set()).update(inner[:1])
    if several := [(name, sorted(inner)) for name, inner in parts.items() if len(inner) > 1]:
        name, inner = several[0]
        more = f"; likewise {len(several) - 1} more" if len(several) > 1 else ""
        say(f"{folder / name}: its folders {inner[0]} and {inner[1]}, {len(inner)} in total, are read as one class, {name}{more}")


def _files(paths: Sequence[Path]) -> str:
    return "1 file" if len(paths) == 1 else f"{len(paths)} files"


def _relative(paths: Sequence[Path], folder: Path) -> Path:
    return paths[0].relative_to(folder)
