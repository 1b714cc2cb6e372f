"""A trial of a real sweep run again and its champion taken elsewhere, through the command line."""

import json
import os
import re
import subprocess
import sys
from pathlib import Path
from typing import NamedTuple

import pytest
import torch
from mlflow import MlflowClient
from mlflow.entities import Run

from cpsc.probe import ProbeSet
from cpsc.teacher import Teacher
from tests.support.bare import run_bare
from tests.support.command_line import call_cli
from tests.support.studies import tiny_study, write_study
from tests.unit.tuning.test_export import has_onnx

pytestmark = [pytest.mark.ray, pytest.mark.timeout(600)]


class Swept(NamedTuple):
    folder: Path
    study: Path
    client: MlflowClient
    trials: list[Run]

    def replay(self, run_id: str, *arguments: str | Path) -> subprocess.CompletedProcess[str]:
        return call_cli("replay", run_id, *arguments, cwd=self.folder)

    @property
    def completed(self) -> str:
        return next(run.info.run_id for run in self.trials if run.data.tags["outcome"] == "completed")


@pytest.fixture(scope="module")
def swept(tmp_path_factory: pytest.TempPathFactory) -> Swept:
    """Three trials, of which the second diverges."""
    folder = tmp_path_factory.mktemp("replayed")
    study = tiny_study()
    study["space"] = {"weights.l2": {"loguniform": [0.1, 10]}, "student.lr": {"loguniform": [0.01, 1e30]}}
    study["start"] = [{"weights.l2": 1.0, "student.lr": 0.1}, {"weights.l2": 1.0, "student.lr": 1e30}, {"weights.l2": 2.0}]
    study["search"] = {"num_trials": 3, "startup_trials": 3}
    path = write_study(folder / "tiny.yaml", study)
    environment = dict(os.environ)
    done = call_cli("sweep", path, cwd=folder)
    assert done.returncode == 0, done.stderr
    assert dict(os.environ) == environment, "what libraries were told is taken back"
    client = MlflowClient(tracking_uri=f"sqlite:///{folder / 'runs' / 'mlflow.db'}")
    experiment = client.get_experiment_by_name("tiny")
    trials = client.search_runs([experiment.experiment_id], "tags.kind = 'trial'")
    return Swept(folder, path, client, sorted(trials, key=lambda run: int(run.data.tags["number"])))


def test_every_trial_replayed_has_the_numbers_of_its_record_however_it_ended(swept: Swept) -> None:
    assert "diverged" in {run.data.tags["outcome"] for run in swept.trials}
    for run in swept.trials:
        done = swept.replay(run.info.run_id)
        assert done.returncode == 0, done.stdout + done.stderr
        assert re.search(r"identical to the record in \d epochs?, all \d+ numbers", done.stdout)
        assert "differ," not in done.stderr


def test_a_replay_goes_on_from_a_checkpoint_with_the_same_numbers(swept: Swept) -> None:
    done = swept.replay(swept.completed, "--from-checkpoint", "2")
    assert done.returncode == 0, done.stdout + done.stderr
    assert "continued from the checkpoint of epoch 2" in done.stderr
    assert "identical to the record in 1 epoch," in done.stdout
    assert "epoch 1," not in done.stderr


def test_a_change_is_said_and_is_no_failure(swept: Swept) -> None:
    done = swept.replay(swept.completed, "--epochs", "1", "--set", "weights.l2=7")
    assert done.returncode == 0, done.stderr
    assert "changed: weights.l2 1.0 -> 7; the numbers will differ from the record" in done.stderr
    assert "differs from the record from epoch 1 on, with weights.l2 1.0 -> 7" in done.stdout


def test_numbers_that_differ_although_nothing_was_changed_are_status_1(swept: Swept) -> None:
    """The record is altered, as another processor would have made it."""
    run = next(run for run in swept.trials if run.info.run_id == swept.completed)
    copy = swept.client.create_run(run.info.experiment_id, tags=run.data.tags)
    for name, value in run.data.params.items():
        swept.client.log_param(copy.info.run_id, name, value)
    swept.client.log_metric(copy.info.run_id, "probe_kl", 1e-9, step=1)
    done = swept.replay(copy.info.run_id)
    assert done.returncode == 1
    assert "differs from the record from epoch 1 on: probe_kl" in done.stdout


def test_a_profile_is_a_trace_and_a_table(swept: Swept, tmp_path: Path) -> None:
    done = swept.replay(swept.completed, "--epochs", "1", "--profile", tmp_path / "trace.json", "--profile-steps", "2")
    assert done.returncode == 0, done.stderr
    assert any(event.get("name") == "aten::conv2d" for event in json.loads((tmp_path / "trace.json").read_text())["traceEvents"])
    assert "Self CPU" in done.stdout
    assert "2 training steps are in" in done.stdout
    assert "identical to the record in 1 epoch," in done.stdout


def test_the_debugger_stops_at_the_first_step_and_its_user_may_leave(swept: Swept) -> None:
    environment = os.environ | {"PYTHONPATH": str(Path(__file__).parents[2])}
    done = subprocess.run(
        [sys.executable, "-m", "tuning", "replay", swept.completed, "--debugger"],
        cwd=swept.folder,
        env=environment,
        input="p view.labels.shape\nq\n",
        capture_output=True,
        text=True,
        timeout=240,
        check=False,
    )
    assert "torch.Size([16])" in done.stdout
    assert done.returncode == 130, done.stderr
    assert "Traceback" not in done.stderr


def test_a_launchs_run_is_refused_in_a_line(swept: Swept) -> None:
    parent = swept.trials[0].data.tags["mlflow.parentRunId"]
    done = swept.replay(parent)
    assert done.returncode == 2
    assert done.stderr.startswith(f"error: run {parent}: is the launch tiny, not a trial")
    assert len(done.stderr.splitlines()) == 1


def test_the_champion_is_exported_and_answers_without_this_package(swept: Swept, tmp_path: Path) -> None:
    done = call_cli("export", swept.study, "--output", tmp_path / "out", cwd=swept.folder)
    assert done.returncode == 0, done.stderr
    champion = swept.client.get_model_version_by_alias("tiny", "champion").run_id
    facts = json.loads((tmp_path / "out" / "student.json").read_text())
    assert facts["provenance"]["run_id"] == champion
    assert "student.pt: logits bit-equal to the checkpoint's on 20 probe images" in done.stdout

    (teacher_file,) = (swept.folder / "runs" / "teachers").glob("*.pt")
    (probe_file,) = (swept.folder / "runs" / "probes").glob("*.pt")
    teacher = Teacher.load(teacher_file)
    torch.save(ProbeSet.load(probe_file, teacher=teacher).images, tmp_path / "out" / "images.pt")
    snippet = "import torch\nprogram = torch.export.load('student.pt2').module()\n"
    snippet += "images = torch.load('images.pt', weights_only=True)\nprint(program(images / 255).argmax(dim=1).tolist())"
    answered = run_bare(snippet, tmp_path / "out")
    assert answered.returncode == 0, answered.stderr
    if has_onnx():  # without that extra the other two forms are what there is
        snippet = "import onnxruntime, torch\nsession = onnxruntime.InferenceSession('student.onnx')\n"
        snippet += "images = torch.load('images.pt', weights_only=True)\n"
        snippet += "(logits,) = session.run(None, {'pixels': (images / 255).numpy()})\nprint(logits.argmax(axis=1).tolist())"
        by_onnx = run_bare(snippet, tmp_path / "out")
        assert by_onnx.stdout == answered.stdout, by_onnx.stderr
    images = torch.load(tmp_path / "out" / "images.pt", weights_only=True)
    with torch.no_grad():
        wanted = teacher.build(torch.device("cpu"))(teacher.normalisation.normalise(images)).logits.argmax(dim=1)
    share = (torch.tensor(json.loads(answered.stdout)) == wanted).float().mean().item()
    assert share == pytest.approx(facts["verified"]["probe_agreement"])
    assert share == pytest.approx(swept.client.get_run(champion).data.metrics["best_probe_agreement"], abs=0.051)


def test_any_trials_student_can_be_exported_and_other_runs_are_refused(swept: Swept, tmp_path: Path) -> None:
    arguments = ("export", swept.study, "--output", tmp_path / "out", "--formats", "weights")
    done = call_cli(*arguments, "--run", swept.completed, cwd=swept.folder)
    assert done.returncode == 0, done.stderr
    assert {file.name for file in (tmp_path / "out").iterdir()} == {"student.pt", "network.py", "student.json", "README.md"}
    refused = call_cli(*arguments, "--run", "f" * 32, cwd=swept.folder)
    assert refused.returncode == 2
    assert refused.stderr.startswith(f"error: run {'f' * 32}: is not in sqlite:")
    assert len(refused.stderr.splitlines()) == 1
