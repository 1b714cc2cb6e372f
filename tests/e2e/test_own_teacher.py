"""A stranger's first hour: weights and a network of his own, not one image, and no error message on the way to a student."""

import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
import yaml
from safetensors.torch import load_file

from tests.support.command_line import call_cli
from tests.support.studies import ROOT

pytestmark = [pytest.mark.ray, pytest.mark.timeout(900)]

TOY = {
    "epochs": 1,
    "schedule.iterations": 2,
    "schedule.batch_size": 16,
    "student.warmup_epochs": 0,
    "generator.width": 8,
    "probe.num_images": 20,
    "probe.batch_size": 20,
    "probe.steps": 2,
    "examiners.epochs": 1,
    "examiners.count": 3,
    "examiners.num_images": 30,
    "search.num_trials": 2,
    "search.startup_trials": 1,
}
SMALL = [word for path, value in TOY.items() for word in ("--set", f"{path}={value}")]


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A working directory with the packaged example in it, and the weights that its script makes."""
    home = tmp_path_factory.mktemp("home")
    shutil.copytree(
        ROOT / "search_spaces" / "own_teacher", home / "own_teacher", ignore=shutil.ignore_patterns("*.pth", "__pycache__")
    )
    script = [sys.executable, str(home / "own_teacher" / "make_weights.py")]
    subprocess.run(script, check=True, timeout=240, env=os.environ | {"OMP_NUM_THREADS": "1"})
    assert (home / "own_teacher" / "teacher.pth").is_file()
    return home


@pytest.fixture(autouse=True)
def own_network() -> Iterator[None]:
    """Each test as in a process that has met no module of that name."""
    sys.modules.pop("network", None)
    yield
    sys.modules.pop("network", None)


def said(*words: str | Path, cwd: Path) -> str:
    done = call_cli(*words, cwd=cwd)
    output = done.stdout + done.stderr
    assert done.returncode == 0, output
    assert "error" not in output.lower(), output
    return output


def test_from_a_weights_file_to_a_student_in_four_commands(home: Path) -> None:
    words = ("init", "own_teacher/teacher.pth", "--factory", "network:Digits", "--image-size", "8", "--normalisation", "half")
    written = said(*words, cwd=home)
    study = home / "own_teacher" / "teacher.yaml"
    assert f"network:Digits, {56_714:,} weights, 10 classes, 1 channel" in written
    assert "run it: cpsc-tune sweep own_teacher/teacher.yaml" in written
    content = yaml.safe_load(study.read_text())
    assert "dataset" not in content["config"]
    assert content["config"]["teacher"] == {
        "path": "teacher.pth",
        "factory": "network:Digits",
        "image_size": 8,
        "normalisation": "half",
    }
    argument = "own_teacher/teacher.yaml"
    assert "is registered as models:/teacher@champion" in said("sweep", argument, *SMALL, cwd=home)
    said("report", argument, "--output", "report", cwd=home)
    assert (home / "report" / "report.html").stat().st_size > 10_000
    said("export", argument, "--output", "student", "--formats", "weights,safetensors", cwd=home)
    weights = load_file(home / "student" / "student.safetensors")
    assert weights["conv1.weight"].shape[1] == 1
    assert all(tensor.isfinite().all() for tensor in weights.values() if tensor.dtype == torch.float32)


@pytest.mark.parametrize(("place", "study"), [(".", "own_teacher/study.yaml"), ("own_teacher", "study.yaml")])
def test_the_example_runs_from_its_folder_and_from_above_it(place: str, study: str, home: Path) -> None:
    assert "16 trials of up to 9 epochs" in said("sweep", study, "--dry-run", cwd=home / place)
    tried = said("trial", study, *SMALL, cwd=home / place)
    assert "teacher network:Digits" in tried
    assert "test accuracy unknown" in tried
    assert "epoch 1, probe agreement" in tried
    assert (home / place / "runs" / "probes").is_dir()
