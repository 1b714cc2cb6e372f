"""Images of every kind that files hold: decoded to what a person sees, or refused by name with the reason."""

import io
import warnings
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from cpsc.data.decoding import decode_images
from cpsc.errors import DataError
from tests.unit.cpsc.data.files import encoded, pixels

PICTURE = pixels(1, size=8, seed=6)[0]


def saved(image: Image.Image, kind: str = "PNG", **options: object) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, kind, **options)
    return buffer.getvalue()


def decoded(*contents: bytes) -> tuple[np.ndarray, list[str]]:
    """uint8 [N, H, W, 3], and what is said."""
    said: list[str] = []
    images = decode_images(contents, lambda index: f"image {index}", say=said.append)
    return images.numpy().transpose(0, 2, 3, 1), said


def refusal(source: bytes | Path) -> str:
    with pytest.raises(DataError) as caught:
        decode_images([source], lambda index: f"image {index}")
    assert "\n" not in str(caught.value)
    return str(caught.value)


@pytest.mark.parametrize("orientation", range(1, 9))
def test_an_image_is_turned_as_its_exif_data_say(orientation: int) -> None:
    exif = Image.Exif()
    exif[0x0112] = orientation
    stored = Image.fromarray(PICTURE)
    images, said = decoded(saved(stored, exif=exif))
    turned = {
        1: PICTURE,
        2: PICTURE[:, ::-1],
        3: PICTURE[::-1, ::-1],
        4: PICTURE[::-1],
        5: PICTURE.transpose(1, 0, 2),
        6: np.rot90(PICTURE, -1),
        7: np.rot90(PICTURE, 2).transpose(1, 0, 2),
        8: np.rot90(PICTURE),
    }
    assert np.array_equal(images[0], turned[orientation])
    assert said == (["image 0: was rotated upright, according to its EXIF data"] if orientation > 1 else [])


@pytest.mark.parametrize("exif", [b"", b"Exif\0\0", b"Exif\0\0II*\0 damaged", b"\xff" * 40])
def test_damaged_exif_data_say_nothing_of_the_pixels(exif: bytes) -> None:
    images, said = decoded(saved(Image.fromarray(PICTURE), exif=exif))
    assert np.array_equal(images[0], PICTURE)
    assert said == []


@pytest.mark.parametrize("kind", ["GIF", "PNG", "TIFF", "WEBP"])
def test_of_several_frames_the_first_is_taken_and_that_is_told(kind: str) -> None:
    frames = [Image.fromarray(frame) for frame in pixels(3, size=8, seed=9)]
    lossless = {"lossless": True} if kind == "WEBP" else {}
    still = decoded(saved(frames[0], kind, **lossless))[0]
    images, said = decoded(saved(frames[0], kind, save_all=True, append_images=frames[1:], **lossless))
    assert np.array_equal(images, still)
    assert said == ["image 0: has several frames; only the first is used"]


def test_transparency_is_told_where_there_is_some_and_once_for_all_images() -> None:
    opaque = Image.fromarray(PICTURE)
    holed = opaque.copy()
    holed.putalpha(Image.fromarray(np.arange(64, dtype=np.uint8).reshape(8, 8)))
    contents = [saved(opaque), saved(opaque.convert("RGBA")), saved(holed), saved(holed)]
    images, said = decoded(*contents)
    assert all(np.array_equal(image, PICTURE) for image in images)
    assert said == ["image 2: is transparent in places; the colours under the transparency are used; likewise 1 more"]


def test_a_palette_with_transparent_entries_keeps_its_colours_without_a_warning_of_pillows() -> None:
    palette = Image.fromarray(PICTURE).quantize(16)
    content = saved(palette, transparency=bytes(range(0, 160, 10)))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        images, said = decoded(content)
    assert np.array_equal(images[0], np.array(palette.convert("RGB")))
    assert said == ["image 0: is transparent in places; the colours under the transparency are used"]


LUMA = np.array([0.299, 0.587, 0.114])
"""Of red, green and blue: ITU-R BT.601."""


@pytest.mark.parametrize("mode", ["RGB", "RGBA", "P", "CMYK"])
def test_of_coloured_images_one_channel_is_their_luma(mode: str) -> None:
    image = Image.fromarray(PICTURE).convert(mode)
    content = saved(image, "TIFF" if mode == "CMYK" else "PNG")
    images = decode_images([content], str, channels=1)
    assert images.shape == (1, 1, 8, 8)
    assert np.abs(images[0, 0].numpy() - np.array(image.convert("RGB")) @ LUMA).max() < 1.0


@pytest.mark.parametrize("mode", ["L", "LA", "1", "P", "RGB"])
@pytest.mark.parametrize("size", [None, 4])
def test_a_grey_image_has_the_same_levels_in_one_channel_as_in_three(mode: str, size: int | None) -> None:
    grey = PICTURE[:, :, 0] // 128 * 255 if mode == "1" else PICTURE[:, :, 0]
    content = saved(Image.fromarray(grey).convert(mode))
    one, three = (decode_images([content], str, channels=channels, resize_to=size) for channels in (1, 3))
    assert torch.equal(one.expand_as(three), three)
    if size is None:
        assert np.array_equal(one[0, 0].numpy(), grey)


@pytest.mark.parametrize(
    "image",
    [
        Image.fromarray(PICTURE).convert("CMYK"),
        Image.fromarray(PICTURE[:, :, 0]),
        Image.fromarray(PICTURE[:, :, 0] > 99),
        Image.fromarray(PICTURE).convert("YCbCr"),
    ],
    ids=lambda image: image.mode,
)
def test_other_colours_become_red_green_and_blue(image: Image.Image) -> None:
    images, said = decoded(saved(image, "TIFF"), encoded(PICTURE))
    assert np.array_equal(images[0], np.array(image.convert("RGB")))
    assert np.array_equal(images[1], PICTURE)
    assert said == []


def test_a_picture_too_large_is_called_so_and_not_unreadable(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 16)
    assert refusal(encoded(PICTURE)) == "image 0: has more pixels than Pillow accepts: make it smaller"


@pytest.mark.parametrize(
    ("content", "what"),
    [
        (b"", "it is empty, download it again"),
        (
            b"version https://git-lfs.github.com/spec/v1\noid sha256:0\n",
            "it is a Git LFS pointer, fetch the file with",
        ),
        (b"<html>404</html>", "it is a web page instead of the file, download it again"),
        (b"no image", "PNG or JPEG or BMP"),
    ],
    ids=["empty", "lfs", "html", "text"],
)
def test_what_stands_in_for_an_image_is_named(content: bytes, what: str, tmp_path: Path) -> None:
    file = tmp_path / "0.png"
    file.write_bytes(content)
    for source in (content, file):
        assert refusal(source).startswith(f"image 0: not a readable image ({what}")
