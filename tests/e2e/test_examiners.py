"""A sweep whose students are chosen by examiners: killed among them, run again, killed among its trials, resumed."""

import signal
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from mlflow import MlflowClient

from cpsc.examiners import ExamImages
from tests.support.command_line import call_cli
from tests.support.killing import end, repeat_alone, slow_study, start, wait_for_epochs, wait_until
from tests.support.studies import write_study
from tuning.display import Display
from tuning.replay.comparison import is_of_the_moment
from tuning.results import Launch
from tuning.results.from_mlflow import load_launch
from tuning.sqlite import sqlite_uri
from tuning.storage import Storage
from tuning.study import Study, load_study
from tuning.trial import prepare
from tuning.trial.examiners import ExaminerTraining, examiners_folder, images_name

pytestmark = [pytest.mark.ray, pytest.mark.timeout(600)]


@pytest.fixture(scope="module")
def swept(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, str]:
    """A study's file, and what was said of it: its driver was killed among the examiners, run again, killed, and resumed."""
    folder = tmp_path_factory.mktemp("examined")
    content = slow_study(folder) | {"objective": "exam_score"}
    content["config"] |= {"epochs": 3, "examiners": {"count": 3, "epochs": 2, "num_images": 30}}
    content["config"]["schedule"] |= {"iterations": 8}
    content["search"] = {"num_trials": 4, "startup_trials": 3}
    study = write_study(folder / "tiny.yaml", content)
    driver = start("sweep", study, cwd=folder)
    wait_until(lambda: list(folder.glob("runs/examiners/*/*.pt")), driver)
    end(driver, signal.SIGKILL)
    assert list(folder.glob("runs/examiners/*/*.pt")), (folder / "driver.log").read_text()
    launch = folder / "runs" / "tiny"
    assert not launch.exists(), "examiners come before the launch"
    driver = start("sweep", study, cwd=folder)
    wait_for_epochs(launch, 3, driver)
    end(driver, signal.SIGKILL)
    done = call_cli("resume", "tiny", cwd=folder)
    assert done.returncode == 0, done.stderr
    return study, (folder / "driver.log").read_text() + done.stdout + done.stderr


def recorded(study: Study) -> tuple[MlflowClient, Launch]:
    """What MLflow has of it, with every metric."""
    client = MlflowClient(tracking_uri=sqlite_uri(study.local / "mlflow.db"))
    return client, load_launch(client, study.name, curves=None)


def test_their_images_are_those_of_a_process_that_nobody_killed(swept, tmp_path: Path) -> None:
    file, output = swept
    study = replace(load_study(file), storage=str(tmp_path))
    assets = prepare(load_study(file), Display(quiet=True))
    assert assets.examiners is not None
    training = ExaminerTraining(
        study=study,
        teacher=assets.teacher,
        probe=assets.probe,
        storage=Storage(study.storage),
        folder="alone",
        shares=study.examiners.shares(3),
        last=2,
        code_folders=(),
    )
    assert 0 <= training.run(study.start[0]) <= 1
    (run,) = {path.name.partition("-")[0] for path in (tmp_path / "alone").iterdir()}
    exam = assets.examiners.images
    assert torch.equal(exam.images[exam.sources == exam.source_of(run)], training.images_of(run))
    assert (len(exam.images), len(exam.runs)) == (30, 3)
    assert "3 examiners of 2 epochs made 30 images" in output


def test_every_epoch_has_the_score_and_the_record_says_where_it_comes_from(swept) -> None:
    file, output = swept
    client, launch = recorded(load_study(file))
    for trial in launch.trials:
        assert trial.curves["exam_score"].keys() == trial.curves["probe_agreement"].keys()
        assert trial.at_best("held_out_agreement", launch.objective) is not None
    runs = [client.get_run(trial.run_id) for trial in launch.trials]
    assert {tuple(sorted(entry.dataset.name for entry in run.inputs.dataset_inputs)) for run in runs} == {
        ("digits", "examiners", "probe-set")
    }
    assert "its agreement on images that had no part in the choice" in output
    assert "rank correlation of exam score and test accuracy" in output


def test_trials_that_are_examiners_have_the_numbers_of_a_trial_alone(swept) -> None:
    file, _ = swept
    study = load_study(file)
    _, launch = recorded(study)
    trial = next(trial for trial in launch.trials if trial.number == 0)
    alone = repeat_alone(study, trial.point, epochs=trial.num_epochs)
    lasting = {name: list(curve.items()) for name, curve in trial.curves.items() if curve and not is_of_the_moment(name)}
    assert {name: alone[name] for name in lasting} == lasting
    assert "exam_score" in lasting


def test_their_epochs_are_removed_and_their_images_stay(swept) -> None:
    file, _ = swept
    study = load_study(file)
    assets = prepare(study, Display(quiet=True))
    folder = examiners_folder(study, assets.teacher)
    storage = Storage(study.storage)
    assert (storage.exists(images_name(folder)), storage.names(folder)) == (True, [])
    with storage.reading(storage.path(images_name(folder))) as path:
        assert len(ExamImages.load(path, teacher=assets.teacher).images) == 30
