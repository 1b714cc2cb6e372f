"""A run found by its id in a real, small store; everything else about it refused in a line."""

import json
from pathlib import Path
from typing import Any, NamedTuple

import pytest
import yaml
from mlflow import MlflowClient
from mlflow.entities import Metric, Param

from cpsc.errors import ConfigError
from tests.support.events import made
from tests.support.studies import tiny_study
from tuning.launch.events import LaunchStart, to_record
from tuning.outcome import Outcome
from tuning.results.recorded_trial import find_trial, stores_of, study_of

pytestmark = pytest.mark.slow  # trials are read from an MLflow store


class Recorded(NamedTuple):
    folder: Path
    client: MlflowClient
    parent: str
    trial: str
    deleted: str
    foreign: str

    @property
    def stores(self) -> list[str]:
        return stores_of(str(self.folder))


@pytest.fixture(scope="module")
def recorded(tmp_path_factory: pytest.TempPathFactory) -> Recorded:
    """A folder as a sweep leaves it: the store, the launch's study and its journal."""
    folder = tmp_path_factory.mktemp("runs of a user")
    client = MlflowClient(tracking_uri=f"sqlite:///{folder / 'mlflow.db'}")
    experiment = client.create_experiment("tiny", (folder / "artifacts").as_uri())
    launch = {"launch": "tiny", "launch_id": "first"}
    parent = client.create_run(experiment, tags={"kind": "launch", **launch}).info.run_id
    client.log_text(parent, yaml.safe_dump(tiny_study() | {"storage": "kept"}), "study.yaml")
    tags = {"kind": "trial", "number": "3", "outcome": "pruned", "mlflow.parentRunId": parent, **launch}
    tags |= {"point": json.dumps({"weights.l2": 0.5}), "resumed.epochs": "5", "environment": json.dumps({"torch": "2.11.0"})}
    trial = client.create_run(experiment, tags=tags).info.run_id
    params = {"weights.l2": "0.5", "epochs": "3", "student.lr": "1e-05", "generator.beta1": "0.5", "teacher.digest": "abc"}
    points = [Metric("probe_kl", value, 0, step) for step, value in ((1, 0.7), (2, 0.1 + 0.2))]
    client.log_batch(trial, metrics=points, params=[Param(key, value) for key, value in params.items()])
    deleted = client.create_run(experiment, tags=tags).info.run_id
    client.delete_run(deleted)
    foreign = client.create_run(experiment).info.run_id
    (folder / "tiny").mkdir()
    (folder / "tiny" / "study.yaml").write_text(yaml.safe_dump(tiny_study() | {"storage": str(folder)}))
    (folder / "tiny" / "journal.jsonl").write_text(json.dumps(to_record(made(LaunchStart, launch_id="first"))) + "\n")
    return Recorded(folder, client, parent, trial, deleted, foreign)


def test_a_trial_is_read_with_its_settings_and_curves(recorded: Recorded) -> None:
    trial = find_trial(recorded.trial, recorded.stores)
    assert (trial.number, trial.launch, trial.study_name, trial.outcome) == (3, "tiny", "tiny", Outcome.PRUNED)
    assert trial.point == {"weights.l2": 0.5}
    assert trial.settings == {"weights.l2": 0.5, "epochs": 5, "student.lr": 1e-5, "generator.beta1": 0.5}, (
        "a resume's value is the last"
    )
    assert trial.facts == {"teacher.digest": "abc"}
    assert trial.curves == {"probe_kl": {1: 0.7, 2: 0.1 + 0.2}}, "to the last bit"
    assert trial.environment == {"torch": "2.11.0"}
    assert trial.last_epoch == 2


@pytest.mark.parametrize(
    ("which", "words"),
    [
        ("parent", "is the launch tiny, not a trial; its first trials are 3: "),
        ("deleted", "was deleted in MLflow; restore it with: mlflow runs restore --run-id"),
        ("foreign", "is not a trial of a sweep, because it has no tag kind"),
    ],
)
def test_a_run_that_is_no_trial_is_refused(recorded: Recorded, which: str, words: str) -> None:
    with pytest.raises(ConfigError, match=words):
        find_trial(getattr(recorded, which), recorded.stores)


def test_an_unknown_run_is_told_with_the_stores_that_were_asked(recorded: Recorded) -> None:
    with pytest.raises(ConfigError, match=r"run f{32}: is not in sqlite:.*mlflow\.db; copy the run ID"):
        find_trial("f" * 32, recorded.stores)


def test_a_trial_is_found_by_its_launch_and_number(recorded: Recorded) -> None:
    assert find_trial("tiny:3", recorded.stores).run_id == recorded.trial
    assert find_trial("tiny:003", recorded.stores).run_id == recorded.trial


@pytest.mark.parametrize("name", ["tiny:4", "other:3"])
def test_a_number_that_no_trial_has_is_told_as_an_unknown_run(recorded: Recorded, name: str) -> None:
    with pytest.raises(ConfigError, match=rf"run {name}: is not in sqlite:"):
        find_trial(name, recorded.stores)


def test_a_store_that_cannot_be_asked_is_told_and_the_next_one_is(recorded: Recorded, tmp_path: Path) -> None:
    (tmp_path / "mlflow.db").write_text("no database at all, but a text that is long enough to be taken for a damaged one" * 20)
    broken = f"sqlite:///{tmp_path / 'mlflow.db'}"
    assert find_trial(recorded.trial, [broken, *recorded.stores]).number == 3
    with pytest.raises(ConfigError, match=r"not in sqlite:.*, which cannot be read \(.*not a database.*\)"):
        find_trial(recorded.trial, [broken])


@pytest.mark.parametrize("run_id", ["", "../x", "a b", "x" * 101, "run'--", "tiny:", "tiny:-1", ":3", "ti' OR 'ny:3"])
def test_what_is_no_id_never_reaches_a_store(run_id: str) -> None:
    with pytest.raises(ConfigError, match="is not a run ID"):
        find_trial(run_id, ["sqlite:////nowhere/at/all.db"])


def test_a_trial_whose_tags_were_edited_is_refused(recorded: Recorded) -> None:
    run = recorded.client.get_run(recorded.trial)
    edited = recorded.client.create_run(run.info.experiment_id, tags=run.data.tags | {"point": "{"}).info.run_id
    with pytest.raises(ConfigError, match="its tags are not those of a trial"):
        find_trial(edited, recorded.stores)


def test_the_study_is_the_launchs_own_file(recorded: Recorded) -> None:
    trial = find_trial(recorded.trial, recorded.stores)
    study = study_of(trial, str(recorded.folder), ["resources.cpus=2"])
    assert (study.storage, study.resources.cpus) == (str(recorded.folder), 2)


def test_where_another_launch_has_taken_the_name_the_study_comes_from_the_launchs_run(recorded: Recorded) -> None:
    trial = find_trial(recorded.trial, recorded.stores)
    journal = recorded.folder / "tiny" / "journal.jsonl"
    content = journal.read_text()
    journal.write_text(content.replace("first", "second"))
    try:
        assert study_of(trial, str(recorded.folder), []).storage == str(Path("kept").absolute())
    finally:
        journal.write_text(content)


def test_a_study_that_is_nowhere_is_told(recorded: Recorded, tmp_path: Path) -> None:
    run = recorded.client.get_run(recorded.trial)
    tags = run.data.tags | {"launch": "gone", "mlflow.parentRunId": recorded.foreign}
    orphan = recorded.client.create_run(run.info.experiment_id, tags=tags).info.run_id
    with pytest.raises(ConfigError, match=r"the study of launch gone is neither under .* nor with the launch's run"):
        study_of(find_trial(orphan, recorded.stores), str(tmp_path), [])


def launch_with(folder: Path, name: str, tracking: Any) -> None:
    (folder / name).mkdir()
    (folder / name / "study.yaml").write_text(yaml.safe_dump(tiny_study() | {"tracking": tracking}))


def test_the_stores_are_the_folders_own_and_those_its_launches_name(tmp_path: Path) -> None:
    launch_with(tmp_path, "one", {"uri": "http://127.0.0.1:5000"})
    launch_with(tmp_path, "two", {"uri": "http://127.0.0.1:5000"})
    launch_with(tmp_path, "three", {"uri": "file:///etc"})
    launch_with(tmp_path, "four", "nothing")
    assert stores_of(str(tmp_path)) == ["http://127.0.0.1:5000"]
    (tmp_path / "mlflow.db").touch()
    assert stores_of(str(tmp_path)) == [f"sqlite:///{tmp_path / 'mlflow.db'}", "http://127.0.0.1:5000"]
    assert stores_of(tmp_path.as_uri()) == ["http://127.0.0.1:5000"], "a storage of another machine has no database"


def test_a_named_store_is_the_only_one_asked(tmp_path: Path) -> None:
    assert stores_of(str(tmp_path), "http://127.0.0.1:7000") == ["http://127.0.0.1:7000"]


def test_a_folder_without_a_store_is_told(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"--storage: .* leads to no MLflow store .* name the store with --tracking"):
        stores_of(str(tmp_path))


def test_a_store_that_is_none_is_refused_without_its_password() -> None:
    with pytest.raises(ConfigError, match="--tracking: must be an MLflow server") as caught:
        stores_of("runs", "ftp://me:secret@host")
    assert "secret" not in str(caught.value)
