"""A user's own class vectors, such as embeddings of class names, read from a file without executing anything in it."""

import hashlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from cpsc import checkpoint
from cpsc.errors import ConfigError

SETTING = "noisy_layer.file"


def read_class_vectors(path: Path, num_classes: int) -> Tensor:
    """float32 [C, d] from a NumPy (.npy), torch (.pt) or safetensors file: an array, or the only entry of a dictionary.

    ConfigError if it cannot be read, or does not have `num_classes` distinct rows of finite numbers.
    """
    if path.suffix not in _READERS:
        raise ConfigError(f"{SETTING} must end in {', '.join(_READERS)}, got {str(path)!r}")
    if not path.is_file():
        raise ConfigError(f"{SETTING}: {path}: no such file")
    try:
        content = _READERS[path.suffix](path)
    except Exception as error:  # files of other kinds fail in many ways, none of which helps a user
        fault = f"not a readable {path.suffix} file (truncated, corrupt or of another kind)"
        raise ConfigError(f"{SETTING}: {path}: {fault}") from error
    vectors = next(iter(content.values())) if isinstance(content, dict) and len(content) == 1 else content
    if not isinstance(vectors, Tensor):
        found = f"{len(vectors)} entries" if isinstance(vectors, dict) else f"a {type(vectors).__name__}"
        raise ConfigError(f"{SETTING}: {path}: must hold one tensor with a row per class, but holds {found}")
    return _checked(vectors, path, num_classes)


def content_digest(path: Path) -> str:
    """SHA-256 of the file. ConfigError if it cannot be read."""
    try:
        return hashlib.sha256(path.read_bytes()).hexdigest()
    except OSError as error:
        raise ConfigError(f"{SETTING}: {path}: cannot be read ({error.strerror or error})") from error


def _checked(vectors: Tensor, path: Path, num_classes: int) -> Tensor:
    shape = tuple(vectors.shape)
    if vectors.ndim != 2 or len(vectors) != num_classes or not vectors.shape[1]:
        raise ConfigError(f"{SETTING}: {path}: must be [{num_classes}, d], a row for each class of the teacher, got {list(shape)}")
    if vectors.is_complex() or vectors.layout is not torch.strided:
        raise ConfigError(f"{SETTING}: {path}: must be a dense tensor of real numbers, got {vectors.dtype}, {vectors.layout}")
    rows = vectors.detach().float().contiguous()
    if not rows.isfinite().all():
        row = int((~rows.isfinite()).any(dim=1).nonzero()[0])
        raise ConfigError(f"{SETTING}: {path}: row {row} holds NaN, infinity, or a value too large for float32")
    _, places = rows.unique(dim=0, return_inverse=True)
    found = places.tolist()
    for second, place in enumerate(found):
        if (first := found.index(place)) < second:
            raise ConfigError(f"{SETTING}: {path}: rows {first} and {second} are the same: these classes could not be told apart")
    return rows


def _read_numpy(path: Path) -> Any:
    import numpy as np

    return torch.from_numpy(np.load(path, allow_pickle=False))


def _read_torch(path: Path) -> Any:
    checkpoint.check_archive(path)
    return torch.load(path, map_location="cpu", weights_only=True)


def _read_safetensors(path: Path) -> Any:
    from safetensors.torch import load_file

    return load_file(path)


_READERS: dict[str, Callable[[Path], Any]] = {".npy": _read_numpy, ".pt": _read_torch, ".safetensors": _read_safetensors}
