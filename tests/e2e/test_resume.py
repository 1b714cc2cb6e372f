"""Sweeps that are killed, interrupted and extended: nothing lost, nothing twice, nothing left running in the records."""

import shutil
import signal
import time
from pathlib import Path

import pytest

from cpsc.errors import ConfigError
from tests.support.command_line import call_cli
from tests.support.killing import (
    count_epochs,
    end,
    recorded_curves,
    repeat_alone,
    slow_study,
    start,
    statuses,
    wait_for_epochs,
    wait_until,
)
from tests.support.studies import ROOT, write_study
from tuning.display import Display
from tuning.launch import Journal, replay_events
from tuning.launch.events import LaunchEnd
from tuning.outcome import Outcome
from tuning.results import launch_from_journal
from tuning.study import load_study
from tuning.sweep import resume_sweep
from tuning.sweep.recovery import close_dead_launches

pytestmark = [pytest.mark.ray, pytest.mark.timeout(600)]
EARLIER_LAUNCH = ROOT / "tests" / "support" / "earlier_launch"


@pytest.fixture(scope="module")
def killed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A study whose driver was killed with SIGKILL after its seventh epoch, when MLflow had heard of the first ones."""
    folder = tmp_path_factory.mktemp("killed")
    study = write_study(folder / "tiny.yaml", slow_study(folder))
    driver = start("sweep", study, cwd=folder)
    wait_for_epochs(folder / "runs" / "tiny", 7, driver)
    wait_until((folder / "runs" / "tiny" / "journal.acknowledged").exists, driver)
    assert end(driver, signal.SIGKILL) == -signal.SIGKILL
    return folder


def test_a_dead_launch_does_not_show_as_running_once_another_starts(killed: Path, tmp_path: Path) -> None:
    """Looked at in a copy, for the launch itself is resumed as its death left it."""
    storage = tmp_path / "runs"
    shutil.copytree(killed / "runs", storage)
    assert statuses(storage)["tiny"] == "RUNNING"
    close_dead_launches(storage)  # what every new sweep does first
    assert statuses(storage)["tiny"] == "KILLED"
    assert "RUNNING" not in statuses(storage).values()
    assert statuses(killed / "runs")["tiny"] == "RUNNING"


def test_a_killed_study_is_resumed_and_extended_without_loss(killed: Path) -> None:
    storage = killed / "runs"
    before = replay_events(Journal(storage / "tiny").events(), metric="best_probe_agreement")
    recorded_before = {number: dict(trial.values) for number, trial in before.trials.items()}

    done = call_cli("resume", "tiny", "--storage", storage, "--num-trials", "7", cwd=killed)
    assert done.returncode == 0, done.stderr

    after = replay_events(Journal(storage / "tiny").events(), metric="best_probe_agreement")
    assert sorted(after.trials) == list(range(7))
    assert all(trial.is_over for trial in after.trials.values())
    for number, values in recorded_before.items():
        assert values.items() <= after.trials[number].values.items(), "what was recorded before the death still stands"
        assert after.trials[number].point == before.trials[number].point
    points = [tuple(sorted(trial.point.items())) for trial in after.trials.values()]
    assert len(set(points)) == 7, "no point is proposed twice"

    curves = recorded_curves(storage)
    for number, trial in after.trials.items():
        assert [epoch for epoch, _ in curves[number]["student/kl"]] == list(range(1, trial.last_epoch + 1))
    assert set(statuses(storage).values()) <= {"FINISHED", "KILLED"}
    assert statuses(storage)["tiny"] == "FINISHED"

    study = load_study(storage / "tiny" / "study.yaml", [f"storage={storage}"])
    resumed = next(number for number, trial in before.trials.items() if not trial.is_over)
    alone = repeat_alone(study, after.trials[resumed].point, epochs=after.trials[resumed].last_epoch)
    for metric, curve in curves[resumed].items():
        assert curve == alone[metric], f"{metric} differs from the undisturbed trial's"


def test_sigterm_and_ctrl_c_end_in_order_and_can_be_resumed(killed: Path) -> None:
    teacher = next((killed / "runs" / "teachers").glob("*.pt"))
    changes = {"name": "second", "search": {"num_trials": 2, "startup_trials": 2}}
    study = write_study(killed / "second.yaml", slow_study(killed, teacher=teacher) | changes)
    driver = start("sweep", study, cwd=killed)
    folder = killed / "runs" / "second"
    wait_until(
        lambda: any(Journal(folder).events()), driver
    )  # Ray is begun, and takes seconds; its own handler would end the process with status 15
    time.sleep(1)
    assert end(driver, signal.SIGTERM) == 130
    assert count_epochs(folder) == 0
    assert "continue with: cpsc-tune resume second" in (killed / "driver.log").read_text()
    assert [event.status for event in Journal(folder).events() if isinstance(event, LaunchEnd)] == ["KILLED"]

    driver = start("resume", "second", "--storage", killed / "runs", cwd=killed)
    wait_for_epochs(folder, 3, driver)
    with pytest.raises(ConfigError, match="another process is running this launch"):
        resume_sweep(str(killed / "runs"), "second", Display(quiet=True), overrides=[])
    assert end(driver, signal.SIGINT) == 130
    assert (killed / "driver.log").read_text().count("stopping: this takes about 20 s") == 1
    assert "second: 0 trials done in" in (killed / "driver.log").read_text()
    assert (killed / "driver.log").read_text().count("continue with: cpsc-tune resume second") == 2
    assert "RUNNING" not in statuses(killed / "runs", "second").values()
    assert statuses(killed / "runs", "second")["second"] == "KILLED"
    epochs = count_epochs(folder)
    done = call_cli("resume", "second", "--storage", killed / "runs", "--quiet", cwd=killed)
    assert done.returncode == 0, done.stderr
    assert count_epochs(folder) > epochs
    assert statuses(killed / "runs", "second")["second"] == "FINISHED"


def test_an_unknown_launch_is_named_with_those_that_exist(killed: Path) -> None:
    done = call_cli("resume", "nothing", "--storage", killed / "runs", cwd=killed)
    assert done.returncode == 2
    assert "launch 'nothing': not found in" in done.stderr
    assert "tiny" in done.stderr


def test_a_launch_of_an_earlier_version_goes_on(tmp_path: Path) -> None:
    """Of November 2026: its records tell no inputs, nodes or environments. Its checkpoints are lost, so its open trial repeats."""
    shutil.copytree(EARLIER_LAUNCH, tmp_path / "runs" / "tiny")
    told = (EARLIER_LAUNCH / "journal.jsonl").read_text()
    done = call_cli("resume", "tiny", "--storage", "runs", "--quiet", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    journal = Journal(tmp_path / "runs" / "tiny")
    assert journal.path.read_text().startswith(told)
    launch = launch_from_journal(journal.events(), "tiny")
    assert [(trial.number, trial.outcome, trial.num_epochs) for trial in sorted(launch.trials, key=lambda trial: trial.number)] == [
        (number, Outcome.COMPLETED, 2) for number in range(3)
    ]
    assert set(statuses(tmp_path / "runs").values()) == {"FINISHED"}
