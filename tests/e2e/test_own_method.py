"""The method of a user's own in the docs, in a file beside its study: as a trial, in a sweep, and resumed from elsewhere."""

import re
import shutil
import sys
from pathlib import Path

import pytest
import yaml
from mlflow import MlflowClient

from tests.support.command_line import call_cli
from tests.support.studies import tiny_study, write_study
from tuning.study.nested_keys import merge

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs" / "methods.md").read_text(encoding="utf-8")
pytestmark = [pytest.mark.ray, pytest.mark.timeout(900)]  # four commands, two of which start Ray


def beside_its_study(folder: Path) -> Path:
    """The file of the docs' method in `folder`, and its study with small networks and budgets."""
    (block,) = [block for block in re.findall(r"```yaml\n(.*?)```", PAGE, flags=re.DOTALL) if "ninth_method" in block]
    shutil.copy(ROOT / "tests" / "unit" / "cpsc" / "ninth_method.py", folder)
    shown, tiny = yaml.safe_load(block), tiny_study()
    small = {key: value for key, value in tiny.items() if key not in ("name", "space", "start")}
    del shown["scale"]
    own = {"search": {"num_trials": 2}, "storage": str(folder / "runs"), "objective": "exam_score"}
    content = merge(small, shown) | own
    content["config"]["examiners"] = {"count": 3, "epochs": 1, "num_images": 12}  # trained by tasks, which must find the method too
    return write_study(folder / "mine.yaml", content)


def test_a_method_beside_its_study_is_tried_swept_and_resumed(tmp_path: Path) -> None:
    folder, elsewhere = tmp_path / "studies", tmp_path / "elsewhere"
    folder.mkdir()
    elsewhere.mkdir()
    study = beside_its_study(folder)
    tried = call_cli("trial", study, "--set", "weights.doubt=2", cwd=elsewhere)
    assert tried.returncode == 0, tried.stderr
    assert "epoch 3" in tried.stdout + tried.stderr
    swept = call_cli("sweep", study, cwd=elsewhere)
    assert swept.returncode == 0, swept.stderr
    del sys.modules["ninth_method"]  # as in a process that has not met it
    resumed = call_cli("resume", "my-method", "--num-trials", "3", "--storage", folder / "runs", cwd=elsewhere)
    assert resumed.returncode == 0, resumed.stderr
    client = MlflowClient(tracking_uri=f"sqlite:///{folder / 'runs' / 'mlflow.db'}")
    experiment = client.get_experiment_by_name("my-method")
    trials = client.search_runs([experiment.experiment_id], "tags.kind = 'trial'")
    assert len(trials) == 3
    for run in trials:
        assert run.data.params["method"] == "ninth_method:Doubt"
        assert 0.1 <= float(run.data.params["weights.doubt"]) <= 10
        assert 1 <= float(run.data.params["doubting.temperature"]) <= 8
        assert {"generator/doubt", "generator/one_hot", "student/kl"} <= run.data.metrics.keys()
    number = min(int(run.data.tags["number"]) for run in trials if run.data.tags["outcome"] == "completed")
    replayed = call_cli("replay", f"my-method:{number}", "--storage", folder / "runs", cwd=elsewhere)
    assert replayed.returncode == 0, replayed.stdout + replayed.stderr
    assert "not recorded" not in replayed.stdout + replayed.stderr
