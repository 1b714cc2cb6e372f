"""Pictures for people, made of images that a network generated."""

import json
from collections.abc import Sequence
from pathlib import Path

from torch import Tensor
from torch.nn import functional as F

from cpsc.atomic_file import atomic_path

MIN_SIDE = 64
"""Smaller images are enlarged to about this many pixels per side: nobody can see anything in 16."""
GREY = 128
FRAME = 2
"""Pixels between two images, and around all of them."""
CAPTION = "Description"
"""PNG's standard keyword for a caption."""
ROWS, COLUMNS = "Rows", "Columns"
"""Our own keywords for the names of rows and columns, JSON lists."""


def save_grid(grid: Tensor, path: Path, *, caption: str = "", rows: Sequence[str] = (), columns: Sequence[str] = ()) -> None:
    """Write uint8 images [rows, columns, K, H, W] as one PNG grid.

    `caption` and the names of `rows` and `columns` are stored in the file, see `caption_of` and `labels_of`.
    """
    from PIL import Image
    from PIL.PngImagePlugin import PngInfo

    notes = PngInfo()
    notes.add_text(CAPTION, caption)
    for keyword, labels in ((ROWS, rows), (COLUMNS, columns)):
        if labels:
            notes.add_text(keyword, json.dumps(list(labels)))
    scale = max(1, MIN_SIDE // grid.shape[-1])
    picture = _laid_out(grid.repeat_interleave(scale, dim=3).repeat_interleave(scale, dim=4))
    with atomic_path(path) as temporary:
        # Trials write one at every checkpoint; the default level takes four times as long for a file of the same size.
        Image.fromarray(picture.numpy()).save(temporary, format="png", compress_level=1, pnginfo=notes)


def _laid_out(grid: Tensor) -> Tensor:
    """[rows, columns, K, H, W] -> [height, width, 3] with lines around each image, like torchvision's `make_grid`.

    Using torchvision's function would make every worker of a sweep spend five seconds importing it, and torch's compiler with it.
    """
    rows, columns, _, height, width = grid.shape
    framed = F.pad(grid.expand(-1, -1, 3, -1, -1), (FRAME, 0, FRAME, 0), value=GREY)
    picture = framed.permute(0, 3, 1, 4, 2).reshape(rows * (height + FRAME), columns * (width + FRAME), 3)
    return F.pad(picture, (0, 0, 0, FRAME, 0, FRAME), value=GREY)


def caption_of(path: Path) -> str:
    """The caption that `save_grid` stored in the picture; empty if there is none."""
    from PIL import Image

    with Image.open(path) as picture:
        return str(picture.info.get(CAPTION, ""))


def labels_of(path: Path) -> tuple[list[str], list[str]]:
    """The names of rows and columns that `save_grid` stored; empty if there are none, or if they are not valid."""
    from PIL import Image

    with Image.open(path) as picture:
        return _names(picture.info.get(ROWS)), _names(picture.info.get(COLUMNS))


def _names(text: object) -> list[str]:
    try:
        names = json.loads(str(text))
    except ValueError:
        return []
    return names if isinstance(names, list) and all(isinstance(name, str) for name in names) else []
