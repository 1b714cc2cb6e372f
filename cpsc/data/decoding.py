"""Encoded images to one uint8 tensor, on all processors: Pillow decodes without holding the interpreter."""

import io
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor

from cpsc.data.litter import HEAD_BYTES, stand_in
from cpsc.errors import DataError
from cpsc.processors import num_processors

if TYPE_CHECKING:
    from PIL.Image import Image

FORMATS = ("PNG", "JPEG", "BMP", "GIF", "PPM", "TIFF", "WEBP")
"""Those that Pillow decodes itself: for some others, PostScript among them, it would start a program."""

ORIENTATION, UPRIGHT = 0x0112, 1
TURNED = frozenset(range(2, 9))
"""Values of EXIF's orientation that turn or mirror an image."""

OPAQUE = 255

GREY, COLOUR = 1, 3
MODES = {GREY: "L", COLOUR: "RGB"}
"""What Pillow calls images of so many channels."""

CHUNK = 64
"""Images per task: one at a time, handing them out takes longer than decoding small ones."""

OnFile = Callable[[int, int], None]
"""Called with how many images of a part are decoded, and how many it has."""


Say = Callable[[str], None]
"""Called with what was decided here and not by the user: a line for a person."""


def nobody_watches(done: int, total: int) -> None:
    """The default `OnFile`."""


def nobody_listens(message: str) -> None:
    """The default `Say`."""


def decode_images(
    sources: Sequence[Path | bytes],
    name: Callable[[int], str],
    *,
    exactly: int | None = None,
    resize_to: int | None = None,
    channels: int = COLOUR,
    on_file: OnFile = nobody_watches,
    say: Say = nobody_listens,
) -> Tensor:
    """`sources`, at least one, each a file or its content -> uint8 [N, channels, H, W], `channels` `GREY` or `COLOUR`.

    Of grey images `COLOUR` makes three equal channels; of coloured ones `GREY` makes their luma (ITU-R BT.601, as Pillow does).
    With `resize_to`, the shortest side is brought to it (bilinear, antialiased) and the middle is kept; without, all must be
    alike, and `exactly` wide and high if that is given. Raises DataError, which calls image i by ``name(i)``. `say` gets what
    an image had besides its pixels, once of each kind: see `_decode`.
    """
    shape = _decode(sources[0], name(0), resize_to, channels)[0].shape
    if exactly is not None:
        shape = (exactly, exactly, channels)
    images = np.empty((len(sources), channels, *shape[:2]), dtype=np.uint8)

    def decode_chunk(start: int) -> tuple[int, list[tuple[str, int]]]:
        end = min(start + CHUNK, len(sources))
        remarks: list[tuple[str, int]] = []
        for index in range(start, end):
            pixels, found = _decode(sources[index], name(index), resize_to, channels)
            remarks += [(remark, index) for remark in found]
            if pixels.shape != shape:
                raise DataError(f"{name(index)}: is {_size(pixels.shape)}, {_size_rule(shape, exactly)}")
            images[index] = pixels.transpose(2, 0, 1)
        return end, remarks

    remarked: dict[str, list[int]] = {}
    with ThreadPoolExecutor(num_processors()) as pool:
        for done, remarks in pool.map(decode_chunk, range(0, len(sources), CHUNK)):
            on_file(done, len(sources))
            for remark, index in remarks:
                remarked.setdefault(remark, []).append(index)
    for remark, indices in remarked.items():
        say(f"{name(indices[0])}: {remark}" + (f"; so it is with {len(indices) - 1} more" if len(indices) > 1 else ""))
    return torch.from_numpy(images)


def _decode(source: Path | bytes, name: str, resize_to: int | None, channels: int) -> tuple[np.ndarray, list[str]]:
    """uint8 [H, W, channels], and what of the image it does not hold."""
    from PIL import Image, ImageOps, UnidentifiedImageError

    remarks: list[str] = []
    try:
        with Image.open(io.BytesIO(source) if isinstance(source, bytes) else source, formats=FORMATS) as image:
            if image.mode.startswith(("I", "F")):  # more than 8 bits a channel, of which Pillow would cut off the highest
                raise DataError(f"{name}: has pixels of more than 8 bits ({image.mode}), save it with 8 bits a channel")
            upright: Image.Image = image
            if _orientation(image) in TURNED:
                upright = ImageOps.exif_transpose(image)
                remarks.append("is turned upright, as its EXIF data say")
            if _is_transparent(upright):
                remarks.append("is transparent in places, where the colours below are taken")
            picture = _converted(upright, MODES[channels])
            if _has_frames(image):
                remarks.append("has several frames, of which the first is taken")
        if resize_to is not None:
            picture = ImageOps.fit(picture, (resize_to, resize_to), method=Image.Resampling.BILINEAR)
        return np.asarray(picture).reshape(picture.height, picture.width, channels), remarks
    except DataError:
        raise
    except FileNotFoundError as error:
        raise DataError(f"{name}: no such file") from error
    except Image.DecompressionBombError as error:
        raise DataError(f"{name}: has more pixels than any photograph, which Pillow refuses: make it smaller") from error
    except Exception as error:  # a damaged image fails in any way its decoder does
        why = _what_it_is(source) or (" or ".join(FORMATS) if isinstance(error, UnidentifiedImageError) else _damage(error))
        raise DataError(f"{name}: not a readable image ({why})") from error


def _orientation(image: "Image") -> int:
    try:
        return int(image.getexif().get(ORIENTATION, UPRIGHT))
    except Exception:  # damaged EXIF data say nothing of the pixels; damaged pixels fail when they are converted
        return UPRIGHT


def _has_frames(image: "Image") -> bool:
    try:
        return bool(getattr(image, "is_animated", False))
    except Exception:  # what follows the first frame is damaged
        return True


def _is_transparent(image: "Image") -> bool:
    if image.mode not in ("RGBA", "LA", "PA") and "transparency" not in image.info:
        return False
    return any(image.convert("RGBA").getchannel("A").histogram()[:OPAQUE])


def _converted(image: "Image", mode: str) -> "Image":
    if image.mode == "P" and "transparency" in image.info:
        image = image.convert("RGBA")  # the same colours; straight from the palette Pillow warns
    return image.convert(mode)


def _what_it_is(source: Path | bytes) -> str | None:
    if isinstance(source, bytes):
        return stand_in(source[:HEAD_BYTES])
    try:
        with source.open("rb") as file:
            return stand_in(file.read(HEAD_BYTES))
    except OSError as error:
        return error.strerror


def _damage(error: Exception) -> str:
    lines = str(error).splitlines()
    return f"damaged or cut off: {lines[0][:80]}" if lines else "damaged or cut off"


def _size(shape: tuple[int, ...]) -> str:
    return f"{shape[1]}x{shape[0]}"


def _size_rule(shape: tuple[int, ...], exactly: int | None) -> str:
    if exactly is not None:
        return f"must be {_size(shape)}"
    return f"the first image is {_size(shape)}: all must be alike, or give dataset.image_size to resize them"
