"""A launch in Weights & Biases: what its offline files hold, once and again; what is refused, in a line."""

import json
import os
import sys
from pathlib import Path
from typing import Any

import pytest

from cpsc.errors import ConfigError
from tests.support.made_sweep import LAUNCH_ID, made_store
from tests.support.studies import tiny_study, write_study
from tests.support.wandb_files import offline_runs, read_run
from tuning.display import Display
from tuning.report import read_launch
from tuning.report.wandb_runs import Destination, config_of, export_to_wandb, parse_destination, run_id
from tuning.results import Launch, TrialRecord
from tuning.study import load_study

QUIET = Display(quiet=True)
NUM_TRIALS, EPOCHS = 6, 3


def trial_of(params: dict[str, str], point: dict[str, Any]) -> TrialRecord:
    return TrialRecord(number=0, run_id="r", outcome=None, reason="", params=params, curves={}, point=point)


def test_a_config_is_nested_has_numbers_and_begins_with_what_was_searched() -> None:
    params = {"seed": "0", "weights.kl": "1.0", "weights.l2": "2.5", "compile": "False", "cpsc.contrast": "two", "clip": "None"}
    config = config_of(trial_of(params, {"weights.l2": 2.5}))
    assert config == {
        "weights": {"l2": 2.5, "kl": 1.0},
        "seed": 0,
        "compile": False,
        "cpsc": {"contrast": "two"},
        "clip": None,
    }
    assert next(iter(config)) == "weights"


def test_a_config_holds_no_secret_and_survives_a_fact_below_a_value() -> None:
    config = config_of(trial_of({"a": "1", "a.b": "2", "path": "s3://me:secret@bucket/x"}, {}))
    assert (config["a"], config["a.b"]) == (1, 2)
    assert "secret" not in config["path"]


@pytest.mark.parametrize("text", ["", "a/b/c", "/project", "entity/", "what?", "a b\\c", "x" * 129, " project"])
def test_what_is_no_project_is_refused_before_anything_is_read(text: str) -> None:
    with pytest.raises(ConfigError, match=r"^--wandb: must be PROJECT or ENTITY/PROJECT"):
        parse_destination(text)


def test_where_wandb_is_missing_it_is_said_how_to_install_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "wandb", None)
    with pytest.raises(ConfigError, match=r"^--wandb: needs the package wandb, install it with: pip install 'cpsc-tune\[wandb\]'$"):
        parse_destination("project")


def test_a_runs_id_is_the_launchs_and_the_trials_number() -> None:
    launch = Launch(name="x", run_id="store", objective="probe_agreement", epochs=1, trials=[], launch_id="f00")
    assert (run_id(launch, 7), run_id(launch, None)) == ("f00-0007", "f00-launch")


@pytest.mark.slow
def test_every_trial_is_a_run_with_its_curves_and_again_the_same(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("wandb", reason="wandb is not installed: pip install 'cpsc-tune[wandb]'")
    for name in [name for name in os.environ if name.startswith("WANDB_")]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("WANDB_MODE", "offline")
    study = load_study(write_study(tmp_path / "tiny.yaml", tiny_study() | {"storage": str(tmp_path / "runs")}))
    made_store(study, num_trials=NUM_TRIALS, epochs=EPOCHS)
    client, launch = read_launch(study, None, QUIET)
    before = dict(os.environ)
    for _ in range(2):
        said = export_to_wandb(launch, client, Destination("distilled", "me"), tmp_path / "report", QUIET)
    assert dict(os.environ) == before
    folder = tmp_path / "report" / "wandb"
    assert said == f"W&B: group tiny of project distilled is offline in {folder}; send it with: wandb sync {folder}/offline-run-*"
    runs = {name: read_run(file) for name, file in offline_runs(folder).items()}
    assert set(runs) == {run_id(launch, number) for number in (None, *range(NUM_TRIALS))}
    assert len(list(folder.glob("offline-run-*"))) == NUM_TRIALS + 1, "the second export has taken the place of the first"

    for trial in launch.trials:
        run = runs[f"{LAUNCH_ID}-{trial.number:04d}"]
        about = run["about"]
        assert (about.entity, about.project, about.run_group, about.job_type) == ("me", "distilled", "tiny", "trial")
        assert trial.outcome is not None
        assert list(about.tags) == [trial.outcome.value, *(["chosen"] if trial is launch.chosen else [])]
        assert run["config"]["weights"]["l2"] == trial.point["weights.l2"]
        assert run["step_metrics"] == {"epoch": "", "*": "epoch"}
        assert [row["epoch"] for row in run["history"]] == list(range(1, trial.num_epochs + 1))
        for row in run["history"]:
            measured = {name: curve[row["epoch"]] for name, curve in trial.curves.items() if row["epoch"] in curve}
            assert {name: row[name] for name in measured} == measured
            assert row["_timestamp"] == pytest.approx(trial.course.reported[row["epoch"]])
        assert run["history"][-1]["pictures/samples/caption"] == f"trial {trial.number}: 8 columns of noise"
        assert run["summary"]["outcome"] == trial.outcome.value
        assert run["summary"].get("best_score") == trial.at_best(launch.objective, launch.objective)
        assert run["exit_code"] == int(trial.outcome.value in ("diverged", "failed"))

    whole = runs[f"{LAUNCH_ID}-launch"]
    assert whole["about"].job_type == "launch"
    assert "chosen without a real image: trial 0" in whole["about"].notes
    assert whole["summary"]["chosen"] == 0
    table = json.loads(next(folder.rglob("leaderboard*.table.json")).read_text())
    assert [row[table["columns"].index("trial")] for row in table["data"]] == [trial.number for trial in launch.trials]
    assert table["data"][0][table["columns"].index("weights.l2")] == launch.trials[0].point["weights.l2"]


@pytest.mark.slow
def test_what_wandb_refuses_is_a_line_without_the_key(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    wandb = pytest.importorskip("wandb", reason="wandb is not installed: pip install 'cpsc-tune[wandb]'")
    monkeypatch.setenv("WANDB_MODE", "offline")
    launch = Launch(name="x", run_id="store", objective="probe_agreement", epochs=1, trials=[], launch_id="f00")

    def refuse(**about: Any) -> None:
        raise wandb.errors.CommError("https://api:0123456789abcdef0123456789abcdef01234567@api.wandb.ai: 401")

    monkeypatch.setattr(wandb, "init", refuse)
    with pytest.raises(ConfigError, match=r"^--wandb: W&B refused the runs .*wandb login") as refused:
        export_to_wandb(launch, None, Destination("p"), tmp_path, QUIET)
    assert "0123456789abcdef" not in str(refused.value)
