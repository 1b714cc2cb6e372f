"""Labelled images in Hugging Face's Parquet layout, one encoded image and class number per row, from a local folder or a URI."""

import json
from collections import Counter, defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import combinations
from pathlib import Path
from typing import Any

import torch

from cpsc.data.dataset import TEST_PARTS, Dataset, Normalisation, Split, of_any_images
from cpsc.data.decoding import COLOUR, OnFile, Say, decode_images, nobody_listens, nobody_watches
from cpsc.data.labels import check_numbering, class_number
from cpsc.data.parquet_storage import ParquetFile, ParquetFolder, troubles
from cpsc.errors import DataError

IMAGE_COLUMNS = ("img", "image")
TRAIN_PART = "train"
LABEL_COLUMNS = ("label", "fine_label", "labels", "target")
MAX_CLASSES_BY_NUMBER = 100_000
"""Without names in the schema, the largest label gives the number of classes; a damaged label must not exhaust the memory."""


@dataclass(frozen=True, kw_only=True)
class ParquetNames:
    """Names of columns and parts; None: the names in Hugging Face's datasets, see `IMAGE_COLUMNS` and the constants after it."""

    image_column: str | None = None
    label_column: str | None = None
    train_split: str | None = None
    test_split: str | None = None


USUAL = ParquetNames()


def load(
    location: str | Path,
    *,
    image_size: int | None = None,
    normalisation: Normalisation | None = None,
    flip: bool = True,
    channels: int = COLOUR,
    names: ParquetNames = USUAL,
    on_file: OnFile = nobody_watches,
    say: Say = nobody_listens,
) -> Dataset:
    """Load both parts from a folder or URI; the test part is the first of `TEST_PARTS` found, unless `names` says another.

    Class names come from the schema's metadata, or are numbers. Images of several sizes need an `image_size`: see
    `decode_images`, also for `channels`. A `normalisation` of None is measured on the training part. Raises DataError if a
    part is missing or incomplete, the parts have different classes, or a file is corrupt. `say` is told what is not read.
    """
    folder = ParquetFolder.at(location)
    if not folder.is_there():
        raise DataError(f"dataset parquet: {folder} is not a folder; point dataset.path at the one with the Parquet files")
    train_part, test_parts = names.train_split or TRAIN_PART, (names.test_split,) if names.test_split else TEST_PARTS
    train_files = folder.files(train_part, say=say)
    test_files = next(filter(None, (folder.files(part, say=say) for part in test_parts)), None)
    if not train_files or test_files is None:
        kinds = "-*.parquet or ".join(test_parts[:3])
        raise DataError(f"dataset parquet: {folder} must hold {train_part}-*.parquet and {kinds}-*.parquet")
    folder.say_unread([*train_files, *test_files], say)
    (train, classes), (test, test_classes) = (
        read_split(files, resize_to=image_size, channels=channels, names=names, on_file=on_file, say=say)
        for files in (train_files, test_files)
    )
    if classes and test_classes:
        _check_same_names(classes, train_files[0], test_classes, test_files[0])
    classes = classes or test_classes
    if not classes:
        _check_size(max(int(split.labels.max()) for split in (train, test)), train_files[0])
        classes = tuple(map(str, range(check_numbering([train.labels, test.labels], str(train_files[0])))))
    return of_any_images("parquet", train, test, classes, normalisation, flip=flip)


def _check_size(label: int, file: ParquetFile) -> None:
    if label >= MAX_CLASSES_BY_NUMBER:
        raise DataError(f"{file}: labels without names must be below {MAX_CLASSES_BY_NUMBER}, got {label}")


def read_split(
    files: Sequence[ParquetFile],
    *,
    exactly: int | None = None,
    resize_to: int | None = None,
    channels: int = COLOUR,
    names: ParquetNames = USUAL,
    on_file: OnFile = nobody_watches,
    say: Say = nobody_listens,
) -> tuple[Split, tuple[str, ...]]:
    """Decode all rows of `files` -> the split and the class names in the schema's metadata (empty if it has none).

    Raises DataError if a file is corrupt, lacks the columns, is a copy of another, or holds an image that cannot be read or has
    the wrong size, or a label that is not a class.
    """
    cells: list[bytes] = []
    labels: list[int] = []
    places: list[tuple[ParquetFile, int]] = []
    classes: tuple[str, ...] = ()
    named = files[0]
    starts: list[int] = []
    for file in files:
        columns = _read_columns(file, names)
        if classes and columns.class_names:
            _check_same_names(classes, named, columns.class_names, file)
        elif columns.class_names:
            classes, named = columns.class_names, file
        starts.append(len(cells))
        cells += [_encoded(cell, file, row) for row, cell in enumerate(columns.images)]
        labels += [_checked_label(label, file, row) for row, label in enumerate(columns.labels)]
        places += [(file, row) for row in range(len(columns.images))]
    if not cells:
        raise DataError(f"{files[0]}: holds no rows")
    _check_no_copies(files, starts, cells, labels)
    if classes:
        _check_known(labels, classes, places)

    def name(index: int) -> str:
        file, row = places[index]
        return f"{file}: row {row}"

    images = decode_images(cells, name, exactly=exactly, resize_to=resize_to, channels=channels, on_file=on_file, say=say)
    return Split(images, torch.tensor(labels, dtype=torch.int64)), classes


def _check_known(labels: Sequence[int], names: Sequence[str], places: Sequence[tuple[ParquetFile, int]]) -> None:
    """Raise DataError for the first label beyond the classes that the schema names."""
    beyond = next((index for index, label in enumerate(labels) if label >= len(names)), None)
    if beyond is not None:
        file, row = places[beyond]
        hint = "; are they numbered from 1?" if min(labels) == 1 and max(labels) == len(names) else ""
        rule = f"not in 0..{len(names) - 1}, the classes that the schema names"
        raise DataError(f"{file}: row {row}: label {labels[beyond]} is {rule}{hint}")


def _check_no_copies(files: Sequence[ParquetFile], starts: Sequence[int], cells: Sequence[bytes], labels: Sequence[int]) -> None:
    """Raise DataError if two files have the same rows: one of them is a copy under another name."""
    alike: dict[tuple[int, bytes], list[tuple[ParquetFile, slice]]] = defaultdict(list)
    for file, start, end in zip(files, starts, [*starts[1:], len(cells)], strict=True):
        if end > start:
            alike[end - start, cells[start]].append((file, slice(start, end)))
    for group in alike.values():
        for (other, earlier), (file, rows) in combinations(group, 2):
            if labels[rows] == labels[earlier] and cells[rows] == cells[earlier]:
                raise DataError(f"{file}: holds the same rows as {other}, keep one")


def _check_same_names(names: tuple[str, ...], named: ParquetFile, others: tuple[str, ...], file: ParquetFile) -> None:
    if names != others:
        length = max(len(names), len(others))
        theirs, ours = next((a, b) for a, b in zip(_filled(others, length), _filled(names, length), strict=True) if a != b)
        raise DataError(f"{file}: its schema names other classes than that of {named} ({theirs} instead of {ours})")


def _filled(names: tuple[str, ...], length: int) -> tuple[str, ...]:
    return names + ("none",) * (length - len(names))


@dataclass(frozen=True)
class _Columns:
    images: list[Any]
    labels: list[Any]
    class_names: tuple[str, ...]


def _read_columns(file: ParquetFile, names: ParquetNames) -> _Columns:
    """Read only the two columns that are needed, because others may be large."""
    import pyarrow.parquet as pq

    try:
        with file.filesystem.open_input_file(file.path) as stream:
            reader = pq.ParquetFile(stream)
            schema = reader.schema_arrow
            wanted = ((names.image_column, IMAGE_COLUMNS), (names.label_column, LABEL_COLUMNS))
            image_column, label_column = (_column(schema.names, (said,) if said else usual, file) for said, usual in wanted)
            table = reader.read(columns=[image_column, label_column])
            images, labels = table.column(image_column).to_pylist(), table.column(label_column).to_pylist()
    except troubles() as error:
        raise DataError(f"{file}: not a readable Parquet file ({file.why_unreadable(error)})") from error
    return _Columns(images, labels, _class_names(schema.metadata or {}, label_column, file))


def _column(present: list[str], candidates: tuple[str, ...], file: ParquetFile) -> str:
    found = [name for name in present if name in candidates]
    if not found:
        raise DataError(f"{file}: needs a column {' or '.join(candidates)}, but has {', '.join(present)}")
    if len(found) > 1:
        raise DataError(f"{file}: has columns {' and '.join(found)}, which is ambiguous: keep one, or name it")
    return found[0]


def _encoded(cell: Any, file: ParquetFile, row: int) -> bytes:
    """The encoded image: the field 'bytes' of the cell, or the cell itself."""
    content = cell.get("bytes") if isinstance(cell, dict) else cell
    if isinstance(content, bytes):
        return content
    path = cell.get("path") if isinstance(cell, dict) else None
    only = f", only the path {str(path)[:40]!r}: embed the files in the rows" if path else ""
    raise DataError(f"{file}: row {row} holds no image in a field 'bytes'{only}")


def _checked_label(label: Any, file: ParquetFile, row: int) -> int:
    try:
        return class_number(label)
    except ValueError as error:
        raise DataError(f"{file}: row {row}: {error}") from error


def _class_names(metadata: dict[bytes, bytes], label_column: str, file: ParquetFile) -> tuple[str, ...]:
    """Names of a `ClassLabel` in the metadata that Hugging Face adds to the schema; empty if the label is of another kind."""
    try:
        names = json.loads(metadata[b"huggingface"])["info"]["features"][label_column]["names"]
    except (KeyError, ValueError, TypeError):
        return ()
    if isinstance(names, dict):  # by number, as the Hub's dataset cards have them
        names = [names.get(str(index)) for index in range(len(names))]
    if not isinstance(names, list) or not all(isinstance(name, str) for name in names):
        return ()
    if twice := [name for name, count in Counter(names).items() if count > 1]:
        raise DataError(f"{file}: its schema gives the name {twice[0]} to two classes")
    return tuple(names)
