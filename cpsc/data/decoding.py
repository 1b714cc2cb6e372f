"""Encoded images to one uint8 tensor, on all processors: Pillow decodes without holding the interpreter."""

import io
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from cpsc.errors import DataError
from cpsc.processors import num_processors

FORMATS = ("PNG", "JPEG", "BMP", "GIF", "PPM", "TIFF", "WEBP")
"""Those that Pillow decodes itself: for some others, PostScript among them, it would start a program."""

CHUNK = 64
"""Images per task: one at a time, handing them out takes longer than decoding small ones."""

OnFile = Callable[[int, int], None]
"""Called with how many images of a part are decoded, and how many it has."""


def nobody_watches(done: int, total: int) -> None:
    """The default `OnFile`."""


def decode_images(
    sources: Sequence[Path | bytes],
    name: Callable[[int], str],
    *,
    exactly: int | None = None,
    resize_to: int | None = None,
    on_file: OnFile = nobody_watches,
) -> Tensor:
    """`sources`, at least one, each a file or its content -> uint8 [N, 3, H, W]; grey images get three equal channels.

    With `resize_to`, the shortest side is brought to it (bilinear, antialiased) and the middle is kept; without, all must be
    alike, and `exactly` wide and high if that is given. Raises DataError, which calls image i by ``name(i)``.
    """
    shape = _decode(sources[0], name(0), resize_to).shape
    if exactly is not None:
        shape = (exactly, exactly, 3)
    images = np.empty((len(sources), 3, *shape[:2]), dtype=np.uint8)

    def decode_chunk(start: int) -> int:
        end = min(start + CHUNK, len(sources))
        for index in range(start, end):
            pixels = _decode(sources[index], name(index), resize_to)
            if pixels.shape != shape:
                raise DataError(f"{name(index)}: is {_size(pixels.shape)}, {_size_rule(shape, exactly)}")
            images[index] = pixels.transpose(2, 0, 1)
        return end

    with ThreadPoolExecutor(num_processors()) as pool:
        for done in pool.map(decode_chunk, range(0, len(sources), CHUNK)):
            on_file(done, len(sources))
    return torch.from_numpy(images)


def _decode(source: Path | bytes, name: str, resize_to: int | None) -> np.ndarray:
    """uint8 [H, W, 3]."""
    from PIL import Image, ImageOps

    try:
        with Image.open(io.BytesIO(source) if isinstance(source, bytes) else source, formats=FORMATS) as image:
            if image.mode.startswith(("I", "F")):  # more than 8 bits a channel, of which Pillow would cut off the highest
                raise DataError(f"{name}: has pixels of more than 8 bits ({image.mode}), save it with 8 bits a channel")
            rgb = image.convert("RGB")
        if resize_to is not None:
            rgb = ImageOps.fit(rgb, (resize_to, resize_to), method=Image.Resampling.BILINEAR)
        return np.asarray(rgb)
    except DataError:
        raise
    except FileNotFoundError as error:
        raise DataError(f"{name}: no such file") from error
    except Exception as error:  # a damaged image fails in any way its decoder does
        raise DataError(f"{name}: not a readable image ({' or '.join(FORMATS)})") from error


def _size(shape: tuple[int, ...]) -> str:
    return f"{shape[1]}x{shape[0]}"


def _size_rule(shape: tuple[int, ...], exactly: int | None) -> str:
    if exactly is not None:
        return f"must be {_size(shape)}"
    return f"the first image is {_size(shape)}: all must be alike, or give dataset.image_size to resize them"
