"""Pictures of images that a network made, for people."""

from pathlib import Path

from torch import Tensor

from cpsc.atomic_file import atomic_path
from cpsc.torchvision_cure import import_torchvision

MIN_SIDE = 64
"""Smaller images are enlarged to about this many pixels: nobody sees anything in 16."""
GREY = 128
CAPTION = "Description"
"""PNG's own keyword for it."""


def save_grid(grid: Tensor, path: Path, *, caption: str = "") -> None:
    """Write uint8 images [rows, columns, K, H, W] as one PNG, a row a row. `caption` is kept in the file, see `caption_of`."""
    import_torchvision()
    from PIL import Image
    from PIL.PngImagePlugin import PngInfo
    from torchvision.utils import make_grid

    notes = PngInfo()
    notes.add_text(CAPTION, caption)
    scale = max(1, MIN_SIDE // grid.shape[-1])
    tiles = grid.flatten(0, 1).repeat_interleave(scale, dim=2).repeat_interleave(scale, dim=3)
    picture = make_grid(tiles, nrow=grid.shape[1], padding=2, pad_value=GREY).permute(1, 2, 0)
    with atomic_path(path) as temporary:
        # Trials write one at every checkpoint: the default level takes four times as long for a file as large.
        Image.fromarray(picture.numpy()).save(temporary, format="png", compress_level=1, pnginfo=notes)


def caption_of(path: Path) -> str:
    """What `save_grid` was told of the picture; empty where it was told nothing."""
    from PIL import Image

    with Image.open(path) as picture:
        return str(picture.info.get(CAPTION, ""))
