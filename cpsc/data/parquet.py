"""Labelled images in Hugging Face's Parquet layout, an encoded image and a class number a row: a local folder or a URI's."""

import json
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from cpsc.data.dataset import TEST_PARTS, Dataset, Normalisation, Split, of_any_images
from cpsc.data.decoding import OnFile, decode_images, nobody_watches
from cpsc.errors import DataError
from cpsc.redaction import redact

IMAGE_COLUMNS = ("img", "image")
LABEL_COLUMNS = ("label", "fine_label")
MAX_LABEL = 2**31
MAX_CLASSES_BY_NUMBER = 100_000
"""Where the schema has no names a label's size tells how many classes there are; a damaged one must not take the memory."""


@dataclass(frozen=True)
class ParquetFile:
    """A file in a filesystem of Arrow's; as text its path, with the scheme where it is not local, never with credentials."""

    filesystem: Any
    path: str

    def __str__(self) -> str:
        return _shown(self.filesystem, self.path)


@dataclass(frozen=True)
class ParquetFolder:
    """A folder in a filesystem of Arrow's; as text like a `ParquetFile`."""

    filesystem: Any
    root: str

    @classmethod
    def at(cls, location: str | Path) -> "ParquetFolder":
        """The folder at a path, or at a URI, e.g. ``s3://bucket/folder?endpoint_override=host:port``.

        Raises DataError where Arrow does not know the storage.
        """
        from pyarrow import fs

        if "://" not in str(location):
            return cls(fs.LocalFileSystem(), str(location))
        try:
            filesystem, root = fs.FileSystem.from_uri(str(location))
        except _troubles() as error:
            raise DataError(f"dataset.path: {redact(str(location))!r} is no storage that Arrow knows ({_reason(error)})") from error
        return cls(filesystem, root.rstrip("/"))

    def __str__(self) -> str:
        return _shown(self.filesystem, self.root)

    @property
    def is_local(self) -> bool:
        from pyarrow import fs

        return isinstance(self.filesystem, fs.LocalFileSystem)

    def is_there(self) -> bool:
        """Whether it is a folder. Raises DataError where its storage cannot be asked."""
        from pyarrow import fs

        try:
            return bool(self.filesystem.get_file_info(self.root).type == fs.FileType.Directory)
        except _troubles() as error:
            raise DataError(f"{self}: cannot be read ({_reason(error)})") from error

    def files(self, part: str) -> list[ParquetFile]:
        """Those of `part`, sorted: ``<part>-*.parquet`` here or in ``data``, else all in a folder ``<part>``. Perhaps none."""
        pattern = re.compile(rf"{re.escape(part)}(-.*)?\.parquet")
        for folder in (self.root, f"{self.root}/data"):
            if found := [path for path in self._parquet_files(folder) if pattern.fullmatch(path.rpartition("/")[2])]:
                return [ParquetFile(self.filesystem, path) for path in found]
        return [ParquetFile(self.filesystem, path) for path in self._parquet_files(f"{self.root}/{part}")]

    def _parquet_files(self, folder: str) -> list[str]:
        from pyarrow import fs

        try:
            if self.filesystem.get_file_info(folder).type != fs.FileType.Directory:
                return []
            found = self.filesystem.get_file_info(fs.FileSelector(folder))
        except _troubles() as error:
            raise DataError(f"{self}: cannot be read ({_reason(error)})") from error
        return sorted(f"{folder}/{info.base_name}" for info in found if info.is_file and info.base_name.endswith(".parquet"))


def load(
    location: str | Path,
    *,
    image_size: int | None = None,
    normalisation: Normalisation | None = None,
    flip: bool = True,
    on_file: OnFile = nobody_watches,
) -> Dataset:
    """Both parts from a folder or URI; the test part is the first of `TEST_PARTS` there.

    Classes are called as the schema's metadata has them, or by number. Images of several sizes need an `image_size`: see
    `decode_images`. A `normalisation` of None is measured on the training part. Raises DataError where a part is missing or a
    file is corrupt.
    """
    folder = ParquetFolder.at(location)
    if not folder.is_there():
        raise DataError(f"dataset parquet: {folder} is no folder; point dataset.path at the one with the Parquet files")
    train_files, test_files = folder.files("train"), next(filter(None, map(folder.files, TEST_PARTS)), None)
    if not train_files or test_files is None:
        kinds = "-*.parquet or ".join(TEST_PARTS[:3])
        raise DataError(f"dataset parquet: {folder} must hold train-*.parquet and {kinds}-*.parquet")
    train, names = read_split(train_files, resize_to=image_size, on_file=on_file)
    test, _ = read_split(test_files, resize_to=image_size, on_file=on_file)
    if not names:
        num_classes = int(train.labels.max()) + 1
        if num_classes > MAX_CLASSES_BY_NUMBER:
            raise DataError(f"{train_files[0]}: labels without names must be below {MAX_CLASSES_BY_NUMBER}, got {num_classes - 1}")
        names = tuple(str(label) for label in range(num_classes))
    return of_any_images("parquet", train, test, names, normalisation, flip=flip)


def read_split(
    files: list[ParquetFile],
    *,
    exactly: int | None = None,
    resize_to: int | None = None,
    on_file: OnFile = nobody_watches,
) -> tuple[Split, tuple[str, ...]]:
    """Decode all rows of `files` -> the split and the class names in the schema's metadata (empty if it has none).

    Raises DataError where a file is corrupt, lacks the columns, or holds an image that cannot be read or does not fit.
    """
    cells: list[bytes] = []
    labels: list[int] = []
    places: list[tuple[ParquetFile, int]] = []
    names: tuple[str, ...] = ()
    for file in files:
        columns = _read_columns(file)
        names = names or columns.class_names
        cells += [_encoded(cell, file, row) for row, cell in enumerate(columns.images)]
        labels += [_checked_label(label, file, row) for row, label in enumerate(columns.labels)]
        places += [(file, row) for row in range(len(columns.images))]
    if not cells:
        raise DataError(f"{files[0]}: holds no rows")

    def name(index: int) -> str:
        file, row = places[index]
        return f"{file}: row {row}"

    images = decode_images(cells, name, exactly=exactly, resize_to=resize_to, on_file=on_file)
    return Split(images, torch.tensor(labels, dtype=torch.int64)), names


@dataclass(frozen=True)
class _Columns:
    images: list[Any]
    labels: list[Any]
    class_names: tuple[str, ...]


def _read_columns(file: ParquetFile) -> _Columns:
    """The two columns that are needed, and no other: they may be large."""
    import pyarrow.parquet as pq

    try:
        with file.filesystem.open_input_file(file.path) as stream:
            reader = pq.ParquetFile(stream)
            schema = reader.schema_arrow
            image_column, label_column = (_column(schema.names, names, file) for names in (IMAGE_COLUMNS, LABEL_COLUMNS))
            table = reader.read(columns=[image_column, label_column])
            images, labels = table.column(image_column).to_pylist(), table.column(label_column).to_pylist()
    except _troubles() as error:
        raise DataError(f"{file}: not a readable Parquet file ({_reason(error)})") from error
    return _Columns(images, labels, _class_names(schema.metadata or {}, label_column))


def _column(present: list[str], candidates: tuple[str, ...], file: ParquetFile) -> str:
    for name in candidates:
        if name in present:
            return name
    raise DataError(f"{file}: needs a column {' or '.join(candidates)}, it has {', '.join(present)}")


def _encoded(cell: Any, file: ParquetFile, row: int) -> bytes:
    content = cell.get("bytes") if isinstance(cell, dict) else None
    if not isinstance(content, bytes):
        raise DataError(f"{file}: row {row} holds no image in a field 'bytes'")
    return content


def _checked_label(label: Any, file: ParquetFile, row: int) -> int:
    if label is None:
        raise DataError(f"{file}: row {row} has no label")
    if not isinstance(label, int) or not 0 <= label < MAX_LABEL:
        raise DataError(f"{file}: row {row}: a label must be a class number, got {str(label)[:40]!r}")
    return label


def _class_names(metadata: dict[bytes, bytes], label_column: str) -> tuple[str, ...]:
    try:
        features = json.loads(metadata[b"huggingface"])["info"]["features"]
        return tuple(features[label_column]["names"])
    except (KeyError, ValueError, TypeError):
        return ()


def _troubles() -> tuple[type[Exception], ...]:
    import pyarrow as pa

    return (pa.ArrowException, OSError, ValueError)


def _shown(filesystem: Any, path: str) -> str:
    return path if filesystem.type_name == "local" else f"{filesystem.type_name}://{path}"


def _reason(error: Exception) -> str:
    lines = redact(str(error)).strip().splitlines()
    return lines[0][:120] if lines else type(error).__name__
