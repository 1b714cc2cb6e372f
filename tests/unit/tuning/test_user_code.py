"""A teacher's factory lies beside the study or in the working directory: found by the command line, by trials, by a resume."""

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch

from cpsc.errors import ConfigError
from cpsc.probe import ProbeConfig, synthesise
from cpsc.published import PublishedConfig, load_teacher
from tests.support.events import made
from tests.support.studies import tiny_study, write_study
from tuning.launch import Journal
from tuning.launch.events import AttemptStart, LaunchStart
from tuning.launch.launch import new_launch, recorded_code_folders
from tuning.storage import Storage
from tuning.study.config import resolve_study
from tuning.study.user_code import code_folders, look_in
from tuning.sweep.recovery import close_dead_launches
from tuning.trial.context import TrialContext
from tuning.trial.trainable import local_trainable

ROOT = Path(__file__).resolve().parents[3]
SCRIPT = "from tuning.cli import main; main()"
NETWORK = """
from torch import nn


class Mine(nn.Sequential):
    def __init__(self, num_classes, channels):
        layers = nn.Conv2d(channels, 4, 3), nn.BatchNorm2d(4), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(4, num_classes)
        super().__init__(*layers)
"""


def write_network(folder: Path, module: str) -> dict[str, Any]:
    """The user's module in `folder`, and a study's teacher of weights that it made."""
    folder.mkdir(exist_ok=True)
    (folder / f"{module}.py").write_text(NETWORK)
    torch.manual_seed(0)
    layers = [torch.nn.Conv2d(1, 4, 3), torch.nn.BatchNorm2d(4), torch.nn.AdaptiveAvgPool2d(1), torch.nn.Flatten()]
    network = torch.nn.Sequential(*layers, torch.nn.Linear(4, 10))
    network(torch.randn(8, 1, 8, 8))
    path = folder.parent / "mine.pt"
    torch.save(network.state_dict(), path)
    return {"path": str(path), "factory": f"{module}:Mine", "normalisation": "half", "channels": 1, "image_size": 16}


@pytest.fixture
def forget() -> Any:
    path = list(sys.path)
    yield
    sys.path[:] = path
    for name in [name for name in sys.modules if name.startswith("mine_of_")]:
        del sys.modules[name]


@pytest.mark.parametrize("place", ["working directory", "study's folder"])
@pytest.mark.slow
def test_the_installed_script_finds_a_factory(place: str, tmp_path: Path) -> None:
    here, studies = tmp_path / "here", tmp_path / "studies"
    here.mkdir()
    studies.mkdir()
    teacher = write_network(here if place == "working directory" else studies, "mine_of_script")
    study = write_study(studies / "tiny.yaml", tiny_study() | {"config": tiny_study()["config"] | {"teacher": teacher}})
    # As the script does: without the working directory on the path, which -m would put there.
    done = subprocess.run(
        [sys.executable, "-P", "-c", SCRIPT, "teacher", str(study), "--force"],  # its weights are drawn, not trained
        cwd=here,
        env=os.environ | {"PYTHONPATH": os.pathsep.join(filter(None, [str(ROOT), os.environ.get("PYTHONPATH")]))},
        capture_output=True,
        text=True,
        timeout=240,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert "teacher mine_of_script:Mine" in done.stdout + done.stderr


@pytest.mark.usefixtures("forget")
def test_a_trial_looks_where_its_driver_looked(tmp_path: Path) -> None:
    teacher = write_network(tmp_path / "code", "mine_of_trials")
    published = PublishedConfig(**{name: value for name, value in teacher.items() if name != "path"})
    with pytest.raises(ConfigError, match="there is no module mine_of_trials"):
        load_teacher(Path(teacher["path"]), published)
    before = list(sys.path)
    look_in([tmp_path / "code"])
    loaded = load_teacher(Path(teacher["path"]), published)
    probe = synthesise(loaded, ProbeConfig(num_images=20, batch_size=20, steps=1), torch.device("cpu"))
    sys.path[:] = before  # a worker's process has not looked yet
    del sys.modules["mine_of_trials"]
    raw = tiny_study()
    raw["config"] |= {"teacher": {"path": "mine.pt"}}
    study = resolve_study(raw)

    def context(*folders: str) -> TrialContext:
        return TrialContext(
            base=study.base,
            teacher=loaded,
            probe=probe,
            test=None,
            objective="probe_agreement",
            threads=1,
            device="cpu",
            gpus=0,
            storage=Storage(str(tmp_path)),
            code_folders=folders,
        )

    with pytest.raises(ConfigError, match="there is no module mine_of_trials"):
        local_trainable(context(), {})
    trainable = local_trainable(context(str(tmp_path / "code")), {})
    assert trainable.train()["epoch"] == 1
    trainable.stop()


@pytest.mark.usefixtures("forget")
def test_what_is_installed_goes_before_a_file_of_the_same_name(tmp_path: Path) -> None:
    look_in([tmp_path, tmp_path])
    assert sys.path.count(str(tmp_path)) == 1
    assert sys.path[-1] == str(tmp_path)


def test_a_resume_reads_where_its_launch_looked() -> None:
    begun = made(LaunchStart, code_folders=["/home/me/studies"])
    assert recorded_code_folders([begun, made(AttemptStart)]) == ["/home/me/studies"]
    assert recorded_code_folders([made(LaunchStart), made(AttemptStart)]) == ()
    assert recorded_code_folders([]) == ()


@pytest.mark.usefixtures("forget")
def test_a_sweep_that_closes_a_dead_launch_does_not_look_where_that_one_looked(tmp_path: Path) -> None:
    study = resolve_study(tiny_study() | {"name": "dead", "storage": str(tmp_path)})
    with new_launch(study, made(LaunchStart, code_folders=[str(tmp_path / "theirs")])) as name:
        pass
    folders, path = code_folders(), list(sys.path)
    close_dead_launches(tmp_path)
    assert [event.kind for event in Journal(tmp_path / name).events()] == ["launch_start", "launch_end"]
    assert (code_folders(), sys.path) == (folders, path)
