"""Decodes images to one uint8 tensor, on all processors: Pillow releases the interpreter lock while it decodes."""

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
"""Formats that Pillow decodes itself; for some others, such as PostScript, it would start another program."""

ORIENTATION, UPRIGHT = 0x0112, 1
TURNED = frozenset(range(2, 9))
"""Values of the EXIF orientation that rotate or mirror an image."""

OPAQUE = 255

GREY, COLOUR = 1, 3
MODES = {GREY: "L", COLOUR: "RGB"}
"""Pillow's image mode for each number of channels."""

CHUNK = 64
"""Images per task: with one image per task, scheduling takes longer than decoding small images."""

OnFile = Callable[[int, int], None]
"""Called with the number of decoded images of a part, and the number of all its images."""


Say = Callable[[str], None]
"""Called with a line for a person about a decision that the user did not make."""


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
    """Decode `sources`, at least one, each a file or its content -> uint8 [N, channels, H, W], `channels` `GREY` or `COLOUR`.

    `COLOUR` turns a grey image into three equal channels; `GREY` turns a coloured one into its luma (ITU-R BT.601, as in Pillow).
    With `resize_to`, the shorter side is resized to it (bilinear, antialiased) and the centre is kept. Without it, all images must
    have the same size, and be `exactly` wide and high if that is given. Raises DataError, which names image i by ``name(i)``. `say`
    receives what was ignored in the images, once per kind of remark: see `_decode`.
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
        say(f"{name(indices[0])}: {remark}" + (f"; likewise {len(indices) - 1} more" if len(indices) > 1 else ""))
    return torch.from_numpy(images)


def _decode(source: Path | bytes, name: str, resize_to: int | None, channels: int) -> tuple[np.ndarray, list[str]]:
    """uint8 [H, W, channels], and remarks on what was changed or ignored."""
    from PIL import Image, ImageOps, UnidentifiedImageError

    remarks: list[str] = []
    try:
        with Image.open(io.BytesIO(source) if isinstance(source, bytes) else source, formats=FORMATS) as image:
            if image.mode.startswith(("I", "F")):  # more than 8 bits per channel, of which Pillow would cut off the highest
                raise DataError(f"{name}: has pixels of more than 8 bits ({image.mode}), save it with 8 bits per channel")
            upright: Image.Image = image
            if _orientation(image) in TURNED:
                upright = ImageOps.exif_transpose(image)
                remarks.append("was rotated upright, according to its EXIF data")
            if _is_transparent(upright):
                remarks.append("is transparent in places; the colours under the transparency are used")
            picture = _converted(upright, MODES[channels])
            if _has_frames(image):
                remarks.append("has several frames; only the first is used")
        if resize_to is not None:
            picture = ImageOps.fit(picture, (resize_to, resize_to), method=Image.Resampling.BILINEAR)
        return np.asarray(picture).reshape(picture.height, picture.width, channels), remarks
    except DataError:
        raise
    except FileNotFoundError as error:
        raise DataError(f"{name}: no such file") from error
    except Image.DecompressionBombError as error:
        raise DataError(f"{name}: has more pixels than Pillow accepts: make it smaller") from error
    except Exception as error:  # the decoder of a damaged image may fail in any way
        why = _what_it_is(source) or (" or ".join(FORMATS) if isinstance(error, UnidentifiedImageError) else _damage(error))
        raise DataError(f"{name}: not a readable image ({why})") from error


def _orientation(image: "Image") -> int:
    try:
        return int(image.getexif().get(ORIENTATION, UPRIGHT))
    except Exception:  # the pixels may be fine although the EXIF data are damaged; if not, the conversion fails
        return UPRIGHT


def _has_frames(image: "Image") -> bool:
    try:
        return bool(getattr(image, "is_animated", False))
    except Exception:  # the data after the first frame are damaged
        return True


def _is_transparent(image: "Image") -> bool:
    if image.mode not in ("RGBA", "LA", "PA") and "transparency" not in image.info:
        return False
    return any(image.convert("RGBA").getchannel("A").histogram()[:OPAQUE])


def _converted(image: "Image", mode: str) -> "Image":
    if image.mode == "P" and "transparency" in image.info:
        image = image.convert("RGBA")  # the same colours; Pillow warns when it converts directly from the palette
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
    return f"damaged or truncated: {lines[0][:80]}" if lines else "damaged or truncated"


def _size(shape: tuple[int, ...]) -> str:
    return f"{shape[1]}x{shape[0]}"


def _size_rule(shape: tuple[int, ...], exactly: int | None) -> str:
    if exactly is not None:
        return f"must be {_size(shape)}"
    return f"the first image is {_size(shape)}: all must have the same size, or set dataset.image_size to resize them"
