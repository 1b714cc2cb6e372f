"""Which of a trial's checkpoints are still there and are its own."""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from cpsc import checkpoint
from cpsc.errors import CheckpointError, ConfigError
from tests.support.records import recorded_trial
from tests.unit.tuning.conftest import Write
from tuning.results.checkpoints import best_student, check_wanted, kept_checkpoint
from tuning.results.recorded_trial import RecordedTrial
from tuning.study import Study, load_study

KL = (0.5, 0.4, 0.3)
TRIAL = recorded_trial()


@pytest.fixture
def study(raw: dict[str, Any], write: Write, tmp_path: Path) -> Study:
    return replace(load_study(write(raw)), storage=str(tmp_path / "runs"))


def keep(study: Study, epoch: int, *, attempt: int = 0, kl: Sequence[float] = KL, trial: RecordedTrial = TRIAL) -> Path:
    """Write the checkpoint that the trial would have left in the storage after `epoch`."""
    folder = Path(study.storage) / trial.launch / f"attempt-{attempt:03d}" / f"trial-{trial.number:03d}" / f"checkpoint_{epoch:06d}"
    history = [{"probe_kl": value} for value in kl[:epoch]]
    checkpoint.save({"epoch": epoch, "history": history}, folder / "state.pt")
    checkpoint.save({"arch": "wrn_10_1", "student": {"epoch": torch.tensor(epoch)}}, folder / "best_student.pt")
    return folder


@pytest.mark.parametrize(("wanted", "epoch"), [("last", 3), ("best", 2), ("3", 3), ("2", 2)])
def test_a_checkpoint_is_named_by_epoch_or_as_the_last_or_the_best(study: Study, wanted: str, epoch: int) -> None:
    folders = {number: keep(study, number, attempt=number - 2) for number in (2, 3)}
    with kept_checkpoint(TRIAL, study, wanted) as found:
        assert (found.epoch, found.folder) == (epoch, folders[epoch])


def test_one_that_is_not_kept_is_refused_with_those_that_are(study: Study) -> None:
    keep(study, 1)
    keep(study, 3)
    words = r"trial 4 of launch small-2 .* has checkpoints only of epoch 1, 3, got epoch 2"
    with pytest.raises(ConfigError, match=words), kept_checkpoint(TRIAL, study, "2"):
        pass
    with pytest.raises(ConfigError, match=r"got best \(epoch 2\)"), kept_checkpoint(TRIAL, study, "best"):
        pass


def test_a_corrupt_one_is_passed_over(study: Study) -> None:
    keep(study, 2)
    for name in ("state.pt", "best_student.pt"):
        damaged = keep(study, 3) / name
        damaged.write_bytes(damaged.read_bytes()[:60])
        with kept_checkpoint(TRIAL, study, "last") as found:
            assert found.epoch == 2


def test_a_checkpoint_of_another_trial_is_not_this_ones(study: Study) -> None:
    """A launch of the same name, say, in a storage that was emptied in between."""
    keep(study, 3, kl=(0.5, 0.4, 0.31))
    with pytest.raises(ConfigError, match="no checkpoint of trial 4"), kept_checkpoint(TRIAL, study, "last"):
        pass


@pytest.mark.parametrize("wanted", ["0", "-1", "first", "", "1.5", "²"])
def test_only_last_best_and_epochs_name_a_checkpoint(wanted: str) -> None:
    with pytest.raises(ConfigError, match="must be last, best or an epoch"):
        check_wanted(wanted)


def test_the_best_student_is_the_newest_checkpoints(study: Study) -> None:
    keep(study, 2)
    newest = keep(study, 3)
    with best_student(TRIAL, study) as file:
        assert file == newest / "best_student.pt"


def test_a_checkpoint_from_before_the_best_epoch_has_not_its_student(study: Study) -> None:
    keep(study, 1)
    with pytest.raises(CheckpointError, match="best student of trial 4"), best_student(TRIAL, study):
        pass


class WithArtifacts:
    """An MLflow client of a run whose checkpoint was logged."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def list_artifacts(self, run_id: str, path: str) -> list[Any]:
        return [type("File", (), {"path": f"{path}/{file.name}"}) for file in self._folder.iterdir()]

    def download_artifacts(self, run_id: str, path: str, target: str) -> str:
        return str(self._folder)


def test_what_the_run_logged_serves_where_the_storage_has_nothing(study: Study, tmp_path: Path) -> None:
    logged = keep(study, 3).rename(tmp_path / "logged")
    trial = recorded_trial(client=WithArtifacts(logged))
    with kept_checkpoint(trial, study, "last") as found:
        assert (found.folder, found.epoch) == (logged, 3)
    (logged / "state.pt").unlink()
    with best_student(trial, study) as file:
        assert file == logged / "best_student.pt"
