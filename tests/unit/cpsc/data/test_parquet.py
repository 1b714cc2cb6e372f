import io
import json
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
from PIL import Image

from cpsc.data import parquet
from cpsc.errors import DataError

NAMES = ("cat", "dog", "eel")


def pixels(num: int, *, size: int = 4, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (num, size, size, 3), dtype=np.uint8)


def png(image: np.ndarray) -> dict[str, Any]:
    buffer = io.BytesIO()
    Image.fromarray(image).save(buffer, "PNG")
    return {"bytes": buffer.getvalue(), "path": None}


def write(path: Path, columns: dict[str, list[Any]], *, names: tuple[str, ...] | None = NAMES, label: str = "label") -> Path:
    table = pa.table(columns)
    if names is not None:
        features = {"img": {"_type": "Image"}, label: {"names": list(names), "_type": "ClassLabel"}}
        table = table.replace_schema_metadata({"huggingface": json.dumps({"info": {"features": features}})})
    path.parent.mkdir(exist_ok=True)
    pq.write_table(table, path)
    return path


def test_rows_are_decoded_in_order_with_their_labels_and_class_names(tmp_path: Path) -> None:
    images = pixels(3)
    file = write(tmp_path / "train-0.parquet", {"img": [png(image) for image in images], "label": [2, 0, 1]})
    split, names = parquet.read_split([file])
    assert torch.equal(split.images, torch.from_numpy(images).permute(0, 3, 1, 2))
    assert split.images.is_contiguous()
    assert (split.labels.tolist(), split.labels.dtype) == ([2, 0, 1], torch.int64)
    assert names == NAMES


def test_several_files_are_joined_in_order(tmp_path: Path) -> None:
    images = pixels(5)
    for index, rows in enumerate((images[:2], images[2:])):
        write(tmp_path / f"train-{index}.parquet", {"img": [png(image) for image in rows], "label": [index] * len(rows)})
    split, _ = parquet.read_split(parquet.find_files(tmp_path, "train"))
    assert torch.equal(split.images, torch.from_numpy(images).permute(0, 3, 1, 2))
    assert split.labels.tolist() == [0, 0, 1, 1, 1]


@pytest.mark.parametrize(("image_column", "label_column"), [("image", "label"), ("img", "fine_label"), ("image", "fine_label")])
def test_the_usual_column_names_are_understood(image_column: str, label_column: str, tmp_path: Path) -> None:
    columns = {image_column: [png(pixels(1)[0])], label_column: [1], "coarse_label": [9]}
    split, names = parquet.read_split([write(tmp_path / "train-0.parquet", columns, label=label_column)])
    assert split.labels.tolist() == [1]
    assert names == NAMES


@pytest.mark.parametrize(
    "metadata", [None, {}, {"huggingface": "no json"}, {"huggingface": "[1]"}, {"huggingface": '{"info": null}'}]
)
def test_a_schema_without_class_names_gives_none(metadata: dict[str, str] | None, tmp_path: Path) -> None:
    table = pa.table({"img": [png(pixels(1)[0])], "label": [1]}).replace_schema_metadata(metadata)
    pq.write_table(table, tmp_path / "train-0.parquet")
    assert parquet.read_split([tmp_path / "train-0.parquet"])[1] == ()


def test_a_grey_image_becomes_three_equal_channels(tmp_path: Path) -> None:
    grey = pixels(1)[0, :, :, 0]
    split, _ = parquet.read_split([write(tmp_path / "train-0.parquet", {"img": [png(grey)], "label": [0]})])
    assert torch.equal(split.images[0], torch.from_numpy(grey).expand(3, 4, 4))


def test_files_are_found_in_the_folder_or_its_data_folder_in_order(tmp_path: Path) -> None:
    assert parquet.find_files(tmp_path, "train") == []
    columns = {"img": [png(pixels(1)[0])], "label": [0]}
    nested = [write(tmp_path / "data" / f"train-0000{i}-of-00002.parquet", columns) for i in (1, 0)]
    write(tmp_path / "data" / "test-0.parquet", columns)
    assert parquet.find_files(tmp_path, "train") == sorted(nested)
    direct = write(tmp_path / "train-0.parquet", columns)
    assert parquet.find_files(tmp_path, "train") == [direct]


@pytest.mark.parametrize("content", [b"", b"PAR1", b"not parquet at all, but long enough to be looked at", None])
def test_a_corrupt_file_is_refused_in_one_line(content: bytes | None, tmp_path: Path) -> None:
    file = write(tmp_path / "train-0.parquet", {"img": [png(pixels(1)[0])], "label": [0]})
    whole = file.read_bytes()
    file.write_bytes(whole[: len(whole) // 2] if content is None else content)
    with pytest.raises(DataError, match=r"train-0.parquet: not a readable Parquet file") as caught:
        parquet.read_split([file])
    assert "\n" not in str(caught.value)


def test_a_missing_file_is_refused(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"gone.parquet: not a readable Parquet file"):
        parquet.read_split([tmp_path / "gone.parquet"])


@pytest.mark.parametrize(("columns", "needed"), [({"label": [0]}, "img or image"), ({"img": ["x"]}, "label or fine_label")])
def test_a_missing_column_is_named_with_those_there_are(columns: dict[str, list[Any]], needed: str, tmp_path: Path) -> None:
    file = write(tmp_path / "train-0.parquet", columns)
    with pytest.raises(DataError, match=f"train-0.parquet: needs a column {needed}, it has {next(iter(columns))}"):
        parquet.read_split([file])


@pytest.mark.parametrize(
    "cell",
    [None, {"bytes": None, "path": "a.png"}, {"bytes": b"", "path": None}, {"bytes": b"no image", "path": None}, {"path": "a.png"}],
    ids=["null", "null bytes", "empty bytes", "text", "no bytes field"],
)
def test_a_row_without_an_image_is_refused_by_its_number(cell: dict[str, Any] | None, tmp_path: Path) -> None:
    rows = [cell] if cell is not None and "bytes" not in cell else [png(pixels(1)[0]), cell]
    file = write(tmp_path / "train-0.parquet", {"img": rows, "label": [0] * len(rows)})
    with pytest.raises(DataError, match=f"train-0.parquet: row {len(rows) - 1} holds no readable image in its 'bytes' field"):
        parquet.read_split([file])


def test_a_truncated_image_is_refused_by_its_row(tmp_path: Path) -> None:
    cell = png(pixels(1, size=32)[0])
    cell["bytes"] = cell["bytes"][: len(cell["bytes"]) // 2]
    file = write(tmp_path / "train-0.parquet", {"img": [cell], "label": [0]})
    with pytest.raises(DataError, match="row 0 holds no readable image"):
        parquet.read_split([file])


def test_a_bare_image_column_is_refused(tmp_path: Path) -> None:
    file = write(tmp_path / "train-0.parquet", {"img": [png(pixels(1)[0])["bytes"]], "label": [0]})
    with pytest.raises(DataError, match="row 0 holds no readable image"):
        parquet.read_split([file])


def test_images_of_several_sizes_are_refused(tmp_path: Path) -> None:
    cells = [png(pixels(1, size=4)[0]), png(pixels(1, size=6)[0])]
    file = write(tmp_path / "train-0.parquet", {"img": cells, "label": [0, 1]})
    with pytest.raises(DataError, match=r"images have several shapes, e.g. \[\(4, 4, 3\), \(6, 6, 3\)\]"):
        parquet.read_split([file])


def test_a_row_without_a_label_is_refused(tmp_path: Path) -> None:
    file = write(tmp_path / "train-0.parquet", {"img": [png(image) for image in pixels(2)], "label": [0, None]})
    with pytest.raises(DataError, match="a row has no label"):
        parquet.read_split([file])


def test_a_file_without_rows_is_refused(tmp_path: Path) -> None:
    table = pa.table({"img": pa.array([], pa.struct([("bytes", pa.binary())])), "label": pa.array([], pa.int64())})
    pq.write_table(table, tmp_path / "train-0.parquet")
    with pytest.raises(DataError, match="train-0"):
        parquet.read_split([tmp_path / "train-0.parquet"])


def test_an_image_with_a_broken_chunk_is_refused_by_its_row(tmp_path: Path) -> None:
    cell = png(pixels(1)[0])
    start = cell["bytes"].index(b"IDAT") - 4
    length = int.from_bytes(cell["bytes"][start : start + 4], "big") - 20
    cell["bytes"] = cell["bytes"][:start] + length.to_bytes(4, "big") + cell["bytes"][start + 4 :]
    file = write(tmp_path / "train-0.parquet", {"img": [cell], "label": [0]})
    with pytest.raises(DataError, match="row 0 holds no readable image"):
        parquet.read_split([file])


def test_labels_that_are_no_numbers_are_refused(tmp_path: Path) -> None:
    file = write(tmp_path / "train-0.parquet", {"img": [png(pixels(1)[0])], "label": ["cat"]})
    with pytest.raises(DataError, match="label"):
        parquet.read_split([file])
