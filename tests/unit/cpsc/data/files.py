"""Small real files of each layout."""

import io
import json
import pickle
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from PIL import Image


def pixels(num: int, *, size: int = 4, seed: int = 0) -> np.ndarray:
    """uint8 [num, size, size, 3]."""
    return np.random.default_rng(seed).integers(0, 256, (num, size, size, 3), dtype=np.uint8)


def encoded(image: np.ndarray, kind: str = "PNG") -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(image).save(buffer, kind)
    return buffer.getvalue()


def decoded(content: bytes) -> np.ndarray:
    """What a lossy format made of an image, uint8 [3, H, W]."""
    return np.array(Image.open(io.BytesIO(content)).convert("RGB")).transpose(2, 0, 1)


def cell(image: np.ndarray) -> dict[str, Any]:
    """An image as Hugging Face keeps it in a row."""
    return {"bytes": encoded(image), "path": None}


def write_image(path: Path, image: np.ndarray, kind: str = "PNG") -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(encoded(image, kind))
    return path


def write_parquet(path: Path, columns: dict[str, list[Any]], *, names: tuple[str, ...] | None = None, label: str = "label") -> Path:
    """Hugging Face's layout; class names go to the schema's metadata, if there are any."""
    table = pa.table(columns)
    if names is not None:
        features = {"img": {"_type": "Image"}, label: {"names": list(names), "_type": "ClassLabel"}}
        table = table.replace_schema_metadata({"huggingface": json.dumps({"info": {"features": features}})})
    path.parent.mkdir(parents=True, exist_ok=True)
    pq.write_table(table, path)
    return path


def write_pickle(path: Path, content: Any) -> None:
    """As the CIFAR archives were written."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(pickle.dumps(content, protocol=2))


class Touch:
    """Creates a file when it is unpickled."""

    def __init__(self, marker: Path) -> None:
        self.marker = marker

    def __reduce__(self) -> tuple[Any, ...]:
        return Path.touch, (self.marker,)
