"""A study without ground under it: refused, or forced and told on the terminal, on the page and on the registered version."""

import json
from pathlib import Path

import pytest
from mlflow import MlflowClient

from tests.support.command_line import call_cli
from tests.support.malformed import sound_teacher, study_of_a_bundle
from tests.support.studies import write_study

pytestmark = pytest.mark.ray


def test_a_teacher_that_knows_nothing_is_refused_or_forced_and_told(tmp_path: Path) -> None:
    sound_teacher().save(tmp_path / "teacher.pt")
    content = study_of_a_bundle()
    content["config"] |= {"epochs": 1, "probe": {"num_images": 100, "batch_size": 100, "steps": 2}}
    content["config"]["student"] |= {"lr": 1e-9, "warmup_epochs": 0}
    content["search"]["num_trials"] = 1
    study = write_study(tmp_path / "tiny.yaml", content)

    for verb in ("probe", "sweep"):  # the first has made the probe set, which the second finds
        refused = call_cli(verb, study, "--quiet", cwd=tmp_path)
        assert (refused.returncode, refused.stderr.count("\n")) == (2, 1), refused.stderr
        assert refused.stderr.startswith("error: no ground to search on: the teacher gives 10.0 % of 100 probe images the class")
        assert refused.stderr.endswith("; or pass --force to go on anyway\n")
    assert not (tmp_path / "runs" / "tiny").exists(), "nothing was begun"

    forced = call_cli("sweep", study, "--force", cwd=tmp_path)
    assert forced.returncode == 0, forced.stderr
    said, _, registered = forced.stderr.partition("in doubt: the chosen student agrees with its teacher on")
    assert "forced: the teacher gives 10.0 % of 100 probe images" in said
    assert registered, "before it was registered"
    assert "IN DOUBT: the teacher gives 10.0 % of 100 probe images" in forced.stdout

    resumed = call_cli("resume", "tiny", "--num-trials", "2", cwd=tmp_path)
    assert resumed.returncode == 0, "what was forced once is not asked again: " + resumed.stderr

    client = MlflowClient(tracking_uri=f"sqlite:///{tmp_path / 'runs' / 'mlflow.db'}")
    version = client.get_model_version_by_alias("tiny", "champion")
    names = version.tags["in_doubt"].split(", ")
    assert {"label_rate", "champion_at_chance", "champion_untrained"} <= set(names)
    assert version.description.count("**In doubt:**") == len(names)

    report = call_cli("report", study, "--json", cwd=tmp_path)
    assert [found["name"] for found in json.loads(report.stdout)["in_doubt"]] == names, "from the records alone"
    page = (tmp_path / "runs" / "tiny" / "report" / "report.html").read_text(encoding="utf-8")
    assert page.index("In doubt") < page.index("What it found")
    assert page.count("it does not recognise its own probe set") == 1
