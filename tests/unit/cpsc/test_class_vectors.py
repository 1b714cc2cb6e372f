"""A user's own vectors of classes: which files are taken, and what is said of all others."""

import re
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor

from cpsc.errors import ConfigError
from cpsc.examiners import run_digest
from cpsc.rng import RandomStreams
from cpsc.synthesis import InvertedByNoisyLayer
from cpsc.synthesis.class_inputs import class_inputs
from cpsc.synthesis.class_vectors import read_class_vectors
from cpsc.teacher import Teacher
from tests.unit.cpsc.test_noisy_layer import CPU, tiny

ROWS = torch.tensor([[0.0, 1.0, 2.0], [0.0, 1.0, -2.0], [5.0, 5.0, 5.0], [1.0, 0.0, 0.0]])
MAKERS: dict[str, Callable[[Tensor, Path], Any]] = {
    "plain.pt": torch.save,
    "named.pt": lambda rows, path: torch.save({"text": rows}, path),
    "rows.npy": lambda rows, path: np.save(path, rows.numpy()),
    "rows.safetensors": lambda rows, path: save_file({"embeddings": rows}, path),
}


@pytest.mark.parametrize("name", MAKERS)
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.float16, torch.int64])
def test_vectors_are_read_from_each_kind_of_file_in_float32(dtype: torch.dtype, name: str, tmp_path: Path) -> None:
    MAKERS[name](ROWS.to(dtype), tmp_path / name)
    found = read_class_vectors(tmp_path / name, 4)
    assert found.dtype == torch.float32
    assert torch.equal(found, ROWS)


class Runs:
    """What a pickle would run."""

    def __reduce__(self) -> tuple[Any, ...]:
        return (Path.touch, (Path("ran"),))


@pytest.mark.parametrize(
    ("name", "write", "told"),
    [
        ("rows.npy", lambda path: None, "no such file"),
        ("rows.csv", lambda path: path.write_text("1,2"), "must end in .npy, .pt, .safetensors, got"),
        ("rows.npy", lambda path: np.save(path, np.array([Runs()] * 4), allow_pickle=True), "not a readable .npy file"),
        ("rows.pt", lambda path: torch.save(Runs(), path), "not a readable .pt file"),
        ("rows.pt", lambda path: path.write_bytes(b"PK"), "not a readable .pt file"),
        ("rows.safetensors", lambda path: path.write_bytes(b"x" * 50), "not a readable .safetensors file"),
        (
            "rows.pt",
            lambda path: torch.save({"a": ROWS, "b": ROWS}, path),
            "must hold one tensor with a row per class, but holds 2 entries",
        ),
        ("rows.pt", lambda path: torch.save([1.0], path), "must hold one tensor with a row per class, but holds a list"),
        ("rows.pt", lambda path: torch.save(ROWS[:3], path), "must be [4, d], a row for each class of the teacher, got [3, 3]"),
        ("rows.pt", lambda path: torch.save(ROWS[0], path), "must be [4, d], a row for each class of the teacher, got [3]"),
        ("rows.pt", lambda path: torch.save(ROWS[:, :0], path), "must be [4, d], a row for each class of the teacher, got [4, 0]"),
        ("rows.pt", lambda path: torch.save(ROWS.to_sparse(), path), "must be a dense tensor of real numbers"),
        ("rows.npy", lambda path: np.save(path, ROWS.numpy() * 1j), "must be a dense tensor of real numbers"),
        ("rows.pt", lambda path: torch.save(ROWS.double() * 1e38, path), "row 2 holds NaN, infinity, or a value"),
        ("rows.pt", lambda path: torch.save(ROWS[[0, 1, 2, 1]], path), "rows 1 and 3 are the same"),
    ],
)
def test_another_file_is_refused_in_a_line_and_nothing_in_it_runs(
    name: str, write: Callable[[Path], Any], told: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    write(tmp_path / name)
    with pytest.raises(ConfigError, match=rf"^noisy_layer\.file.*{re.escape(told)}") as caught:
        read_class_vectors(tmp_path / name, 4)
    assert "\n" not in str(caught.value)
    assert not Path("ran").exists()


def test_a_generator_is_told_the_classes_by_the_file_and_the_run_has_its_content_in_its_name(
    teacher: Teacher, tmp_path: Path
) -> None:
    file = tmp_path / "rows.pt"
    torch.save(ROWS, file)
    config = tiny(noisy_layer__class_inputs="file", noisy_layer__file=str(file))
    synthesis = InvertedByNoisyLayer(config, teacher, RandomStreams(0, CPU), CPU)
    assert torch.equal(synthesis.modules[0].inputs, ROWS)
    synthesis.begin()
    assert synthesis.batch().images.shape == (10, 1, 8, 8)

    before = run_digest(config)
    assert run_digest(config) == before
    torch.save(2 * ROWS, file)
    assert run_digest(config) != before
    file.unlink()
    with pytest.raises(ConfigError, match=r"^noisy_layer\.file: .*rows\.pt: cannot be read"):
        run_digest(config)
    assert run_digest(tiny(noisy_layer__file=str(file))), "which is not asked where another kind tells the classes"


def test_a_file_must_be_named() -> None:
    with pytest.raises(
        ConfigError, match=r"^noisy_layer\.file must be the path of a file with noisy_layer\.class_inputs file, got None"
    ):
        tiny(noisy_layer__class_inputs="file")


def test_the_pseudo_inverse_is_what_the_classifier_maps_to_one_class_alone(teacher: Teacher) -> None:
    weight, rows = (class_inputs(kind, teacher, seed=0).double() for kind in ("teacher", "pseudo_inverse"))
    assert torch.allclose(rows @ weight.T, torch.eye(4, dtype=torch.float64), atol=1e-5)
    assert torch.linalg.svdvals(weight).min() > 0.1


def test_small_singular_values_are_raised_before_they_are_inverted(teacher: Teacher) -> None:
    name, weight = "fc.weight", teacher.state["fc.weight"]
    flat = replace(teacher, state={**teacher.state, name: 1e-3 * weight})
    assert torch.linalg.svdvals(flat.state[name]).max() < 0.1
    rows = class_inputs("pseudo_inverse", flat, seed=0)
    assert torch.allclose(torch.linalg.svdvals(rows), torch.full((4,), 10.0), rtol=1e-4)
