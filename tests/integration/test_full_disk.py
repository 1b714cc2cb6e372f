"""A disk that fills up in mid-sweep: said in one line, nothing lost, and the sweep goes on once there is space."""

import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.command_line import run_cli
from tests.support.killing import recorded_curves, slow_study, start, wait_for_epochs
from tests.support.studies import write_study
from tuning.launch import Journal, LaunchHistory, replay_events

pytestmark = [pytest.mark.long, pytest.mark.ray, pytest.mark.timeout(400)]


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of its own, of a few megabytes."""
    folder = tmp_path / "disk"
    folder.mkdir()
    mounted = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=48m", "tmpfs", str(folder)], capture_output=True, check=False)
    if mounted.returncode:
        pytest.skip("needs the right to mount a file system")
    yield folder
    subprocess.run(["umount", "--lazy", str(folder)], check=True)


def history(folder: Path) -> LaunchHistory:
    return replay_events(Journal(folder).events(), metric="best_probe_agreement")


def fill(disk: Path) -> Path:
    """A file that takes all that is left."""
    path = disk / "other people's data"
    with path.open("wb", buffering=0) as handle:
        try:
            while handle.write(bytes(2**16)):
                pass
        except OSError:
            return path
    raise AssertionError("the disk has no end")


def test_a_full_disk_stops_the_sweep_in_order_and_loses_nothing(small_disk: Path, tmp_path: Path) -> None:
    folder = small_disk / "runs" / "tiny"
    study = slow_study(small_disk) | {
        "search": {"num_trials": 1000, "startup_trials": 1000, "seed": 0}
    }  # not over before the disk is full
    driver = start("sweep", write_study(tmp_path / "tiny.yaml", study), cwd=tmp_path)
    wait_for_epochs(folder, 4, driver)
    before = history(folder)
    filling = fill(small_disk)
    assert driver.wait(120) == 2
    (line,) = [line for line in (tmp_path / "driver.log").read_text().splitlines() if line.startswith("error: ")]
    assert "No space left on device" in line
    assert f"continue with: cpsc-tune resume tiny --storage {small_disk / 'runs'}" in line
    assert "Traceback" not in (tmp_path / "driver.log").read_text()
    full = history(folder)
    assert all(full.trials[number].values.items() >= trial.values.items() for number, trial in before.trials.items())

    filling.unlink()
    extent = ("--num-trials", str(len(full.trials)))  # goes on with those that were begun, and with no other
    done = run_cli("resume", "tiny", "--storage", small_disk / "runs", *extent, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    after, curves = history(folder), recorded_curves(small_disk / "runs")
    assert {trial.outcome.value for trial in after.trials.values() if trial.outcome} <= {"completed", "pruned"}
    for number, trial in after.trials.items():
        assert [epoch for epoch, _ in curves[number]["student/kl"]] == list(range(1, trial.last_epoch + 1))
