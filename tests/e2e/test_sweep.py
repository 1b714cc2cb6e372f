"""A whole study through the command line on the real libraries, then everything a user does with it."""

import itertools
import json
import math
import os
import re
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

import mlflow
import pytest
import torch
import yaml
from mlflow import MlflowClient
from mlflow.entities import Run

from cpsc.answers import Answers
from cpsc.deploy import build_deployed
from cpsc.metrics import agreement
from cpsc.probe import ProbeSet
from cpsc.teacher import Teacher
from tests.support.command_line import call_cli, run_cli
from tests.support.studies import tiny_study, write_study
from tuning.display import Display
from tuning.launch import Journal, replay_events
from tuning.replay.comparison import is_of_the_moment
from tuning.report.criteria import criteria_rows, rank_criteria
from tuning.results import launch_from_journal
from tuning.results.from_mlflow import load_launch
from tuning.results.trial_record import TrialTimeline
from tuning.sqlite import sqlite_uri
from tuning.sweep import resume_sweep

pytestmark = pytest.mark.ray


class Swept(NamedTuple):
    folder: Path
    study: Path
    output: str
    client: MlflowClient

    def trials(self) -> list[Run]:
        (experiment,) = [found for found in self.client.search_experiments() if found.name == "tiny"]
        runs = self.client.search_runs([experiment.experiment_id], "tags.kind = 'trial'")
        return sorted(runs, key=lambda run: int(run.data.tags["number"]))

    def curve(self, run: Run, metric: str) -> list[float]:
        return [point.value for point in self.client.get_metric_history(run.info.run_id, metric)]


@pytest.fixture(scope="module")
def swept(tmp_path_factory: pytest.TempPathFactory) -> Swept:
    folder = tmp_path_factory.mktemp("sweep")
    study = write_study(folder / "tiny.yaml", tiny_study())
    done = call_cli("sweep", study, cwd=folder)
    assert done.returncode == 0, done.stderr
    client = MlflowClient(tracking_uri=f"sqlite:///{folder / 'runs' / 'mlflow.db'}")
    return Swept(folder, study, done.stdout + done.stderr, client)


def test_every_trial_is_a_run_nested_under_the_launch(swept: Swept) -> None:
    trials = swept.trials()
    names = [run.info.run_name for run in trials]
    assert names == ["trial-000", "trial-001", "trial-002", "trial-003"]
    parents = {run.data.tags["mlflow.parentRunId"] for run in trials}
    (parent,) = parents
    launch = swept.client.get_run(parent)
    assert launch.info.status == "FINISHED"
    assert launch.info.run_name == "tiny"
    assert launch.data.params["space.weights.l2"] == "loguniform(0.1, 10)"
    for run in (launch, *trials):
        assert {entry.dataset.name for entry in run.inputs.dataset_inputs} == {"probe-set", "digits"}


def test_statuses_tell_how_each_trial_ended(swept: Swept) -> None:
    for run in swept.trials():
        epochs = len(swept.curve(run, "probe_agreement"))
        outcome = run.data.tags["outcome"]
        if outcome == "completed":
            assert (run.info.status, epochs) == ("FINISHED", 3)
        else:
            assert (outcome, run.info.status) == ("pruned", "KILLED")
            assert run.data.tags["pruned_at_epoch"] == str(epochs)
            assert epochs in (1, 2)


def test_each_epoch_is_recorded_once_with_the_terms_of_both_phases(swept: Swept) -> None:
    for run in swept.trials():
        history = swept.client.get_metric_history(run.info.run_id, "student/kl")
        assert [point.step for point in history] == list(range(1, len(history) + 1))
        assert {
            "generator/adversarial_kl",
            "generator/contrast",
            "student/label",
            "test_accuracy",
            "probe_kl",
        } <= run.data.metrics.keys()
        assert {"system/cpu_utilization_percentage", "system/system_memory_usage_megabytes"} <= run.data.metrics.keys()
        assert {"generator_class_balance", "replay_bytes", "peak_memory_bytes", "test_agreement"} <= run.data.metrics.keys()
        is_complete = run.data.tags["outcome"] == "completed"
        assert ("teacher_frechet_distance" in run.data.metrics) == is_complete
        assert not {"pid", "timestamp", "training_iteration", "time_total_s"} & run.data.metrics.keys()
        best = swept.curve(run, "best_probe_agreement")
        assert best == sorted(best), "the objective must not fall: ASHA and Optuna look at the last value"


def test_the_first_trial_runs_the_starting_point_with_the_published_values_filled_in(swept: Swept) -> None:
    params = swept.trials()[0].data.params
    assert float(params["weights.l2"]) == 1.0
    assert float(params["contrast_temperature"]) == 0.07
    assert params["student.arch"] == "wrn_10_1"


def test_artifacts_hold_config_checkpoint_and_a_picture(swept: Swept, tmp_path: Path) -> None:
    run = swept.trials()[0]
    names = {item.path for item in swept.client.list_artifacts(run.info.run_id)}
    assert {"config.yaml", "samples.png", "samples_by_epoch.png", "answers.pt", "checkpoint"} <= names
    files = {item.path for item in swept.client.list_artifacts(run.info.run_id, "checkpoint")}
    assert files == {"checkpoint/state.pt", "checkpoint/best_student.pt"}
    config = yaml.safe_load(Path(swept.client.download_artifacts(run.info.run_id, "config.yaml", str(tmp_path))).read_text())
    assert config["weights"]["l2"] == 1.0


def test_the_champion_is_the_chosen_student_and_loads_by_its_alias(swept: Swept) -> None:
    mlflow.set_tracking_uri(swept.client.tracking_uri)
    written = {path.name for path in swept.folder.iterdir()}
    assert written == {"tiny.yaml", "runs"}, "everything a study writes lies under its storage root"
    version = swept.client.get_model_version_by_alias("tiny", "champion")
    best = max(swept.trials(), key=lambda run: (run.data.metrics["best_probe_agreement"], -int(run.data.tags["number"])))
    assert swept.client.get_run(version.run_id).data.metrics["best_probe_agreement"] == best.data.metrics["best_probe_agreement"]
    (teacher_file,) = (swept.folder / "runs" / "teachers").glob("*.pt")
    teacher = Teacher.load(teacher_file)
    (probe_file,) = (swept.folder / "runs" / "probes").glob("*.pt")
    pixels = ProbeSet.load(probe_file, teacher=teacher).images.float().div(255.0)
    served = mlflow.pyfunc.load_model("models:/tiny@champion").predict(pixels.numpy())
    saved = torch.load(swept.client.download_artifacts(version.run_id, "checkpoint/best_student.pt"), weights_only=True)
    with torch.no_grad():
        expected = build_deployed(saved["arch"], saved["student"], teacher)(pixels)
    torch.testing.assert_close(torch.from_numpy(served), expected, rtol=1e-4, atol=1e-4)


def test_the_registry_says_what_a_model_takes_where_it_comes_from_and_what_it_is_worth(swept: Swept) -> None:
    model = swept.client.get_registered_model("tiny")
    assert "float32 [N, 1, 16, 16]. Output: logits [N, 10]" in model.description
    assert "models:/tiny@champion" in model.description
    version = swept.client.get_model_version_by_alias("tiny", "champion")
    run = swept.client.get_run(version.run_id)
    best_epoch = int(run.data.metrics["best_epoch"])
    assert version.description.startswith(f"The student of {run.info.run_name} after epoch {best_epoch}, launch tiny.\n")
    assert f"test accuracy {100 * float(version.tags['test_accuracy']):.2f} %" in version.description
    assert f"--run {version.run_id}" in version.description
    assert (version.tags["launch"], version.tags["trial"], version.tags["arch"]) == ("tiny", run.data.tags["number"], "wrn_10_1")
    curves = {name: swept.client.get_metric_history(version.run_id, name) for name in ("probe_agreement", "test_accuracy")}
    for name, curve in curves.items():
        assert version.tags[name] == f"{next(point.value for point in curve if point.step == best_epoch):.4f}"


def test_the_sweep_ends_with_leaderboard_figures_and_the_way_to_the_ui(swept: Swept) -> None:
    assert "the best 4 of 4 trials" in swept.output
    assert re.search(r"epochs: \d+ run, out of 12 ", swept.output)
    assert "chosen without a real image: trial" in swept.output
    assert "cpsc-tune ui" in swept.output
    assert "models:/tiny@champion" in swept.output
    assert "4/4 done" in swept.output


def test_journal_and_store_tell_the_same(swept: Swept) -> None:
    told = launch_from_journal(Journal(swept.folder / "runs" / "tiny").events(), "tiny")
    stored = load_launch(swept.client, "tiny")
    assert [replace(trial, run_id=None, course=TrialTimeline()) for trial in stored.trials] == list(told.trials)
    assert (told.objective, told.epochs) == (stored.objective, stored.epochs)


def test_answers_are_kept_from_which_each_epochs_agreement_can_be_had_again(swept: Swept, tmp_path: Path) -> None:
    for run in swept.trials():
        answers = Answers.load(Path(swept.client.download_artifacts(run.info.run_id, "answers.pt", str(tmp_path))))
        again = [agreement(student, answers.teacher) for student in answers.students]
        assert again == swept.curve(run, "probe_agreement")


def test_report_reads_the_same_from_the_store(swept: Swept) -> None:
    report = call_cli("report", swept.study, cwd=swept.folder)
    assert report.returncode == 0, report.stderr
    (chosen,) = re.findall(r"chosen without a real image: .*", report.stdout)
    assert chosen in swept.output
    rows = [[cell.strip() for cell in line.strip("|").split("|")] for line in report.stdout.splitlines() if line.startswith("|")]
    ranked = criteria_rows(rank_criteria(swept.client, load_launch(swept.client, "tiny")))
    assert "probe agreement" in {row[0] for row in ranked}
    assert [row for row in rows if row[0] in {row[0] for row in ranked}] == ranked
    page = (swept.folder / "runs" / "tiny" / "report" / "report.html").read_text()
    assert "Generated images" in page
    assert page.count('<img src="data:image/png;base64,') == 2


def test_a_script_reads_the_report_as_json(swept: Swept) -> None:
    report = call_cli("report", swept.study, "--json", "--no-page", "--quiet", cwd=swept.folder)
    found = json.loads(report.stdout)
    assert f"chosen without a real image: trial {found['chosen']} at epoch {found['trials'][0]['best_epoch']}," in swept.output
    assert [trial["run_id"] for trial in found["trials"]] == [trial.run_id for trial in load_launch(swept.client, "tiny").trials]
    assert report.stderr == ""


def test_a_trial_run_alone_reports_the_numbers_of_the_sweeps_trial(swept: Swept) -> None:
    run = max(swept.trials(), key=lambda run: len(swept.curve(run, "probe_kl")))
    point = json.loads(run.data.tags["point"])
    code = (
        "import sys, json; from pathlib import Path; from tuning.trial.local import *; from tuning.study.config import load_study;"
        "from tuning.display import Display; study = load_study(Path(sys.argv[1]));"
        "print(json.dumps(run_trial(study, json.loads(sys.argv[2]), Display(quiet=True))))"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, str(swept.study), json.dumps(point)],
        cwd=swept.folder,
        capture_output=True,
        text=True,
        check=True,
        env=_environment(),
    )
    alone: list[dict[str, Any]] = json.loads(done.stdout)
    compared = 0
    for metric in itertools.filterfalse(is_of_the_moment, run.data.metrics):
        swept_values = swept.curve(run, metric)
        assert swept_values == [epoch[metric] for epoch in alone if metric in epoch][: len(swept_values)], metric
        compared += 1
    assert compared > 15


def _environment() -> dict[str, str]:
    return os.environ | {"PYTHONPATH": str(Path(__file__).parents[2])}


def test_trial_verb_shows_each_epoch_and_writes_its_checkpoint(swept: Swept, tmp_path: Path) -> None:
    done = call_cli(
        "trial", swept.study, "--epochs", "2", "--set", "weights.l2=0.5", "--output", tmp_path / "out", cwd=swept.folder
    )
    assert done.returncode == 0, done.stderr
    assert len(re.findall(r"epoch \d, probe agreement [\d.]+ %", done.stderr)) == 2
    assert yaml.safe_load((tmp_path / "out" / "config.yaml").read_text())["weights"]["l2"] == 0.5
    assert (tmp_path / "out" / "samples.png").stat().st_size > 0


def test_a_sweep_needs_no_dataset_and_whatever_the_folder_is_called_all_lies_in_it(swept: Swept, tmp_path: Path) -> None:
    """The digits are made unreachable for every process, by a scikit-learn without files; only the teacher's bundle is there."""
    root = Path(__file__).parents[2]
    hollow = tmp_path / "poison" / "scikit_learn-0.dist-info"
    hollow.mkdir(parents=True)
    (hollow / "METADATA").write_text("Metadata-Version: 2.1\nName: scikit-learn\nVersion: 0\n")
    poisoned = {"PYTHONPATH": f"{hollow.parent}:{root}"}
    (bundle,) = (swept.folder / "runs" / "teachers").glob("*.pt")
    folder = tmp_path / "swept" / "a%20b  #?'\"ü;&\\ "  # what means something to URLs, shells, YAML and SQL
    folder.mkdir(parents=True)
    study = tiny_study() | {"storage": str(folder / "runs"), "search": {"num_trials": 2}}
    del study["config"]["dataset"]
    study["config"]["teacher"] = {"path": str(bundle)}
    path = write_study(folder / "blind.yaml", study)
    done = run_cli("sweep", path, cwd=folder, **poisoned)
    assert done.returncode == 0, done.stderr
    assert "regret" not in done.stdout
    assert "cpsc-tune ui runs/tiny" in done.stdout
    assert [found.name for found in folder.parent.iterdir()] == [folder.name]
    assert {found.name for found in folder.iterdir()} == {"blind.yaml", "runs"}
    assert {"mlflow.db", "mlflow-artifacts", "probes", "tiny"} <= {found.name for found in folder.glob("runs/*")}
    client = MlflowClient(tracking_uri=sqlite_uri(folder / "runs" / "mlflow.db"))
    experiment = client.get_experiment_by_name("tiny")
    assert client.get_model_version_by_alias("tiny", "champion").status == "READY"
    runs = client.search_runs([experiment.experiment_id], "tags.kind = 'trial'")
    assert len(runs) == 2
    for run in runs:
        assert "test_accuracy" not in run.data.metrics
        assert math.isfinite(run.data.metrics["best_probe_agreement"])
    # The poison works: the same environment cannot load the digits.
    load = "from cpsc.data import DatasetConfig, load_dataset; load_dataset(DatasetConfig(name='digits'))"
    refused = subprocess.run(
        [sys.executable, "-c", load], env=os.environ | poisoned, cwd=tmp_path, capture_output=True, text=True, check=False
    )
    assert refused.returncode != 0
    assert "digits: the installed scikit-learn has no sklearn/datasets" in refused.stderr


def test_a_resume_with_nothing_left_to_do_registers_no_second_champion_and_a_corrupt_checkpoint_is_passed_over(
    swept: Swept,
) -> None:
    """Comes last: it damages what the tests before it look at."""
    runs = str(swept.folder / "runs")
    before = swept.client.get_model_version_by_alias("tiny", "champion")
    again = resume_sweep(runs, "tiny", Display(quiet=True), overrides=[])
    assert again.model_uri == "models:/tiny@champion"
    assert swept.client.get_model_version_by_alias("tiny", "champion").version == before.version

    chosen = again.launch.chosen
    assert chosen is not None
    history = replay_events(Journal(swept.folder / "runs" / "tiny").events(), metric="best_probe_agreement")
    checkpoints = history.trials[chosen.number].checkpoints
    assert len(checkpoints) > 1
    damaged = Path(checkpoints[-1]) / "best_student.pt"
    damaged.write_bytes(damaged.read_bytes()[:100])
    swept.client.delete_registered_model_alias("tiny", "champion")
    repaired = resume_sweep(runs, "tiny", Display(quiet=True), overrides=[])
    assert repaired.model_uri == "models:/tiny@champion"
    after = swept.client.get_model_version_by_alias("tiny", "champion")
    assert after.version != before.version
    assert after.run_id == before.run_id
