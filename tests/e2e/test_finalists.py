"""A sweep with finalists: killed among them and resumed as if nothing had been, told in page, MLflow and JSON."""

import json
import signal
from pathlib import Path
from typing import Any

import pytest
from mlflow import MlflowClient

from tests.support.command_line import call_cli
from tests.support.killing import end, repeat_alone, slow_study, start, wait_until
from tests.support.page import ParsedPage
from tests.support.studies import write_study
from tuning.launch import Journal, replay_events
from tuning.launch.events import Proposed
from tuning.replay.comparison import is_of_the_moment
from tuning.results import Launch, launch_from_journal
from tuning.results.from_mlflow import load_launch
from tuning.sqlite import sqlite_uri
from tuning.study import load_study

pytestmark = [pytest.mark.ray, pytest.mark.timeout(600)]
SEARCHED, FINALISTS = 3, 4


@pytest.fixture(scope="module")
def swept(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[str, Any]]:
    """A study's file, and its resume's figures: its driver was killed while the first finalists ran."""
    folder = tmp_path_factory.mktemp("finalists")
    content = slow_study(folder) | {"prune": {"scheduler": "none"}}
    content["config"] |= {"epochs": 2}
    content["config"]["schedule"] |= {"iterations": 4}
    content["search"] = {"sampler": "random", "num_trials": SEARCHED, "finalists": {"top": 2, "seeds": 2, "epochs": 3}}
    study = write_study(folder / "tiny.yaml", content)
    driver = start("sweep", study, cwd=folder)
    journal = Journal(folder / "runs" / "tiny")
    wait_until(lambda: num_finalists(journal) >= 2, driver)
    end(driver, signal.SIGKILL)
    assert 2 <= num_finalists(journal) <= FINALISTS, (folder / "driver.log").read_text()
    history = replay_events(journal.events(), metric="best_probe_agreement")
    assert any(not trial.is_over for trial in history.trials.values())
    done = call_cli("resume", "tiny", "--json", cwd=folder)
    assert done.returncode == 0, done.stderr
    return study, json.loads(done.stdout)


def num_finalists(journal: Journal) -> int:
    return sum(isinstance(event, Proposed) and event.finalist_of is not None for event in journal.events())


def recorded(study: Path) -> tuple[MlflowClient, Launch]:
    """What MLflow has of it, with every metric."""
    loaded = load_study(study)
    client = MlflowClient(tracking_uri=sqlite_uri(loaded.local / "mlflow.db"))
    return client, load_launch(client, loaded.name, curves=None)


def test_every_finalist_runs_to_its_end_with_the_numbers_of_a_run_alone(swept) -> None:
    study, _ = swept
    _, launch = recorded(study)
    finalists = [trial for trial in launch.trials if trial.finalist_of is not None]
    assert sorted(trial.number for trial in finalists) == list(range(SEARCHED, SEARCHED + FINALISTS))
    assert {trial.num_epochs for trial in finalists} == {3}
    for trial in finalists[:2]:
        alone = repeat_alone(load_study(study), trial.point, epochs=3)
        lasting = {name: list(curve.items()) for name, curve in trial.curves.items() if curve and not is_of_the_moment(name)}
        assert {name: alone[name] for name in lasting} == lasting


def test_journal_and_mlflow_tell_the_same_choice_by_the_mean(swept) -> None:
    study, figures = swept
    client, launch = recorded(study)
    of_journal = launch_from_journal(Journal(load_study(study).local / "tiny").events(), "tiny")
    assert [(finalist.of, finalist.scores) for finalist in launch.finalists] == [
        (finalist.of, finalist.scores) for finalist in of_journal.finalists
    ]
    chosen = launch.finalists[0]
    assert chosen.best is not None
    assert figures["chosen"] == chosen.best.number
    assert [finalist["finalist_of"] for finalist in figures["finalists"]] == [finalist.of for finalist in launch.finalists]
    best = client.get_run(chosen.best.run_id or "")
    assert best.info.run_name.startswith(f"trial-{chosen.best.number:03d} of {chosen.of}, seed ")
    assert best.data.tags["finalist_of"] == str(chosen.of)
    assert client.get_model_version_by_alias("tiny", "champion").run_id == best.info.run_id


def test_the_report_shows_them(swept) -> None:
    study, _ = swept
    done = call_cli("report", study, cwd=study.parent)
    assert done.returncode == 0, done.stderr
    assert "tiny: 2 finalists, mean ± deviation over 2 seeds" in done.stdout
    page = ParsedPage(next(study.parent.rglob("report.html")).read_text())
    assert "Finalists" in page.headings
