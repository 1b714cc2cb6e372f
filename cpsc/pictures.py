"""Pictures of images that a network made, for people."""

import json
from collections.abc import Sequence
from pathlib import Path

from torch import Tensor
from torch.nn import functional as F

from cpsc.atomic_file import atomic_path

MIN_SIDE = 64
"""Smaller images are enlarged to about this many pixels: nobody sees anything in 16."""
GREY = 128
FRAME = 2
"""Pixels between two images, and round all."""
CAPTION = "Description"
"""PNG's own keyword for it."""
ROWS, COLUMNS = "Rows", "Columns"
"""Ours for their names, JSON lists."""


def save_grid(grid: Tensor, path: Path, *, caption: str = "", rows: Sequence[str] = (), columns: Sequence[str] = ()) -> None:
    """Write uint8 images [rows, columns, K, H, W] as one PNG, a row a row.

    `caption` and the names of `rows` and `columns` are kept in the file, see `caption_of` and `labels_of`.
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
        # Trials write one at every checkpoint: the default level takes four times as long for a file as large.
        Image.fromarray(picture.numpy()).save(temporary, format="png", compress_level=1, pnginfo=notes)


def _laid_out(grid: Tensor) -> Tensor:
    """[rows, columns, K, H, W] -> [height, width, 3], lines round each image, as torchvision's `make_grid` does.

    Its own would have every worker of a sweep import torchvision, and torch's compiler with it, for five seconds.
    """
    rows, columns, _, height, width = grid.shape
    framed = F.pad(grid.expand(-1, -1, 3, -1, -1), (FRAME, 0, FRAME, 0), value=GREY)
    picture = framed.permute(0, 3, 1, 4, 2).reshape(rows * (height + FRAME), columns * (width + FRAME), 3)
    return F.pad(picture, (0, 0, 0, FRAME, 0, FRAME), value=GREY)


def caption_of(path: Path) -> str:
    """What `save_grid` was told of the picture; empty where it was told nothing."""
    from PIL import Image

    with Image.open(path) as picture:
        return str(picture.info.get(CAPTION, ""))


def labels_of(path: Path) -> tuple[list[str], list[str]]:
    """The names of rows and columns that `save_grid` was told; empty where it was told none, or where they are no names."""
    from PIL import Image

    with Image.open(path) as picture:
        return _names(picture.info.get(ROWS)), _names(picture.info.get(COLUMNS))


def _names(text: object) -> list[str]:
    try:
        names = json.loads(str(text))
    except ValueError:
        return []
    return names if isinstance(names, list) and all(isinstance(name, str) for name in names) else []
