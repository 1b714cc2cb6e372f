"""Labelled images in Hugging Face's Parquet layout: an encoded image and a class number a row."""

import io
import json
from pathlib import Path
from typing import Any

import numpy as np
import torch

from cpsc.data.dataset import Split
from cpsc.errors import DataError

IMAGE_COLUMNS = ("img", "image")
MAX_LABEL = 2**31
LABEL_COLUMNS = ("label", "fine_label")


def find_files(folder: Path, part: str) -> list[Path]:
    """The files of `part` (``train`` or ``test``) in `folder` or its ``data`` folder, in order; empty if there are none."""
    return sorted(folder.glob(f"{part}-*.parquet")) or sorted(folder.glob(f"data/{part}-*.parquet"))


def read_split(files: list[Path]) -> tuple[Split, tuple[str, ...]]:
    """Decode all rows of `files` -> the split and the class names in the schema's metadata (empty if it has none).

    Raises DataError where a file is corrupt, lacks the columns, or holds images of several sizes.
    """
    images: list[np.ndarray] = []
    labels: list[int] = []
    names: tuple[str, ...] = ()
    for file in files:
        table = _read_table(file)
        image_column = _column(table, IMAGE_COLUMNS, file)
        label_column = _column(table, LABEL_COLUMNS, file)
        names = names or _class_names(table.schema.metadata or {}, label_column)
        for row, cell in enumerate(table.column(image_column).to_pylist()):
            images.append(_decode(cell, file, row))
        labels += table.column(label_column).to_pylist()
    if not images:
        raise DataError(f"{files[0].parent}: {files[0].name} holds no rows")
    if len(shapes := {image.shape for image in images}) > 1:
        raise DataError(f"{files[0].parent}: images have several shapes, e.g. {sorted(shapes)[:2]}, they must be alike")
    if None in labels:
        raise DataError(f"{files[0].parent}: a row has no label")
    if odd := [label for label in labels if not isinstance(label, int) or not 0 <= label < MAX_LABEL]:
        raise DataError(f"{files[0].parent}: labels must be class numbers, got {odd[0]!r}")
    stacked = torch.from_numpy(np.stack(images)).permute(0, 3, 1, 2).contiguous()
    return Split(stacked, torch.tensor(labels, dtype=torch.int64)), names


def _read_table(file: Path) -> Any:
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        return pq.read_table(file)
    except (pa.ArrowException, OSError) as error:
        raise DataError(f"{file}: not a readable Parquet file ({str(error).splitlines()[0][:120]})") from error


def _column(table: Any, candidates: tuple[str, ...], file: Path) -> str:
    for name in candidates:
        if name in table.column_names:
            return name
    raise DataError(f"{file}: needs a column {' or '.join(candidates)}, it has {', '.join(table.column_names)}")


def _decode(cell: Any, file: Path, row: int) -> np.ndarray:
    from PIL import Image, UnidentifiedImageError

    try:
        with Image.open(io.BytesIO(cell["bytes"])) as image:
            return np.array(image.convert("RGB"))
    except (TypeError, KeyError, ValueError, SyntaxError, OSError, UnidentifiedImageError) as error:
        raise DataError(f"{file}: row {row} holds no readable image in its 'bytes' field") from error


def _class_names(metadata: dict[bytes, bytes], label_column: str) -> tuple[str, ...]:
    try:
        features = json.loads(metadata[b"huggingface"])["info"]["features"]
        return tuple(features[label_column]["names"])
    except (KeyError, ValueError, TypeError):
        return ()
