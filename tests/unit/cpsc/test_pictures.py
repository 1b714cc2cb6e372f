from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from PIL.PngImagePlugin import PngInfo

from cpsc.pictures import FRAME, GREY, MIN_SIDE, caption_of, labels_of, save_grid
from cpsc.torchvision_cure import import_torchvision


@pytest.mark.parametrize("channels", [1, 3])
def test_small_images_are_enlarged_and_laid_out_a_row_a_row(channels: int, tmp_path: Path) -> None:
    grid = torch.zeros(2, 3, channels, 16, 16, dtype=torch.uint8)
    for row in range(2):
        for column in range(3):
            grid[row, column] = 40 * (3 * row + column + 1)
    save_grid(grid, tmp_path / "grid.png")
    picture = np.array(Image.open(tmp_path / "grid.png"))
    assert picture.shape == (2 * 66 + 2, 3 * 66 + 2, 3)
    for row in range(2):
        for column in range(3):
            tile = picture[2 + 66 * row : 66 * (row + 1), 2 + 66 * column : 66 * (column + 1)]
            assert (tile == 40 * (3 * row + column + 1)).all()
    assert list(tmp_path.iterdir()) == [tmp_path / "grid.png"]


def test_images_that_are_large_enough_keep_their_size(tmp_path: Path) -> None:
    save_grid(torch.zeros(1, 2, 3, 80, 80, dtype=torch.uint8), tmp_path / "grid.png")
    with Image.open(tmp_path / "grid.png") as picture:
        assert picture.size == (2 * 82 + 2, 84)


@pytest.mark.parametrize("shape", [(3, 4, 3, 32, 32), (1, 2, 1, 64, 64), (10, 8, 1, 16, 16), (2, 5, 3, 65, 70)])
def test_a_grid_is_laid_out_as_torchvision_does(shape: tuple[int, ...], tmp_path: Path) -> None:
    import_torchvision()
    from torchvision.utils import make_grid

    grid = torch.randint(256, shape, generator=torch.Generator().manual_seed(0), dtype=torch.uint8)
    save_grid(grid, tmp_path / "grid.png")
    scale = max(1, MIN_SIDE // shape[-1])
    tiles = grid.flatten(0, 1).repeat_interleave(scale, dim=2).repeat_interleave(scale, dim=3)
    wanted = make_grid(tiles, nrow=shape[1], padding=FRAME, pad_value=GREY).permute(1, 2, 0)
    assert (np.array(Image.open(tmp_path / "grid.png")) == wanted.numpy()).all()


def test_a_picture_keeps_its_caption_and_the_names_of_rows_and_columns(tmp_path: Path) -> None:
    grid = torch.zeros(2, 3, 1, 8, 8, dtype=torch.uint8)
    save_grid(grid, tmp_path / "named.png", caption="of nothing", rows=["Katze", "犬"], columns=["1", "2", "3"])
    save_grid(grid, tmp_path / "bare.png")
    assert caption_of(tmp_path / "named.png") == "of nothing"
    assert labels_of(tmp_path / "named.png") == (["Katze", "犬"], ["1", "2", "3"])
    assert labels_of(tmp_path / "bare.png") == ([], [])


@pytest.mark.parametrize("text", ["", "no JSON", '"one"', "[1, 2]", '{"a": "b"}'])
def test_names_that_are_none_are_passed_over(text: str, tmp_path: Path) -> None:
    notes = PngInfo()
    notes.add_text("Rows", text)
    Image.new("L", (4, 4)).save(tmp_path / "other.png", pnginfo=notes)
    assert labels_of(tmp_path / "other.png") == ([], [])
