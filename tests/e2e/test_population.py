"""A population's sweep with Ray: killed and resumed, its trials compute what their lineages have, and its records say so."""

import json
import signal
from pathlib import Path
from typing import Any

import pytest
from mlflow import MlflowClient

from tests.support.command_line import call_cli
from tests.support.killing import after, end, recorded_curves, repeat_alone, start, wait_for_epochs
from tests.support.studies import tiny_study, write_study
from tuning.launch import Journal, LaunchHistory, replay_events
from tuning.launch.events import Compared
from tuning.sqlite import sqlite_uri
from tuning.study import load_study

pytestmark = [pytest.mark.ray, pytest.mark.long, pytest.mark.timeout(600)]  # its decisions: tests/integration
SIZE, LENGTH = 4, 3


@pytest.fixture(scope="module")
def swept(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[str, Any]]:
    """A study's file, and its resume's figures: its driver was killed after its sixth epoch."""
    folder = tmp_path_factory.mktemp("population")
    content = tiny_study() | {
        "prune": {"scheduler": "pbt", "interval": 1},
        "search": {"sampler": "random", "num_trials": SIZE},
        "storage": str(folder / "runs"),
        "start": [],
    }
    study = write_study(folder / "tiny.yaml", content)
    driver = start("sweep", study, cwd=folder)
    wait_for_epochs(folder / "runs" / "tiny", 6, driver)
    assert end(driver, signal.SIGKILL) == -signal.SIGKILL, (folder / "driver.log").read_text()
    done = call_cli("resume", "tiny", "--json", cwd=folder)
    assert done.returncode == 0, done.stderr
    return study, json.loads(done.stdout)


def history_of(study: Path) -> LaunchHistory:
    return replay_events(Journal(study.parent / "runs" / "tiny").events(), metric="best_probe_agreement")


def test_every_trial_computes_what_its_lineage_has(swept: tuple[Path, dict[str, Any]]) -> None:
    study, _ = swept
    history, curves = history_of(study), recorded_curves(study.parent / "runs")
    compared = [event.epoch for event in Journal(study.parent / "runs" / "tiny").events() if isinstance(event, Compared)]
    assert compared == [1, 2]
    assert any(trial.exploited_after for trial in history.trials.values())
    for number, trial in history.trials.items():
        alone = repeat_alone(load_study(study), trial.point, epochs=LENGTH, schedule=trial.schedule)
        for metric, curve in curves[number].items():
            assert after(trial.exploited_after, curve) == after(trial.exploited_after, alone[metric]), metric


def test_a_run_tells_what_it_took_over_and_replay_follows_its_lineage(swept: tuple[Path, dict[str, Any]]) -> None:
    study, figures = swept
    client = MlflowClient(tracking_uri=sqlite_uri(study.parent / "runs" / "mlflow.db"))
    experiment = client.get_experiment_by_name("tiny")
    runs = {int(run.data.tags["number"]): run for run in client.search_runs([experiment.experiment_id], "tags.kind = 'trial'")}
    taken = next(trial for trial in history_of(study).trials.values() if trial.exploited_after)
    told = json.loads(runs[taken.number].data.tags[f"exploit.{taken.exploited_after:06d}"])
    assert told["point"] == taken.schedule[-1].point
    assert "schedule.yaml" in [file.path for file in client.list_artifacts(runs[taken.number].info.run_id)]
    assert figures["trials"][0]["point"] == history_of(study).trials[figures["chosen"]].schedule[-1].point
    done = call_cli("replay", f"tiny:{taken.number}", cwd=study.parent)
    assert done.returncode == 0, done.stderr
    assert "its state comes from trial " in done.stderr + done.stdout
    assert f"identical to the record in {LENGTH} epochs" in done.stdout
