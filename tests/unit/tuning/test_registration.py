"""One result is one logged model, one version and one alias, whatever cut its registration off and whatever it was answered."""

import shutil
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import mlflow.pytorch
import pytest
import torch
from mlflow import MlflowClient
from mlflow.entities import LoggedModel, LoggedModelStatus

from cpsc import checkpoint
from cpsc.errors import CheckpointError
from cpsc.ground import Finding
from cpsc.models import build_model
from cpsc.rng import seeded_init
from tuning.storage import Storage
from tuning.sweep.registration import Registry
from tuning.tracking import retry as patience
from tuning.tracking.champion import ALIAS, Champion
from tuning.tracking.client import tracking_at, using_mlflow
from tuning.tracking.retry import Patience
from tuning.tracking.tags import DIGEST_TAG, DOUBT_TAG, LAUNCH_TAG, NUMBER_TAG
from tuning.trial import Assets
from tuning.trial.files import BEST_STUDENT_FILE

pytestmark = pytest.mark.slow  # students are logged and registered with MLflow, some hundred times
NUM_PARAMS = 230
STEPS = (
    "create_logged_model",
    "log_model_params",
    "log_outputs",
    "log_model_artifact",
    "finalize_logged_model",
    "create_registered_model",
    "create_model_version",
    "set_registered_model_alias",
)
READS = (
    "get_run",
    "search_logged_models",
    "get_logged_model",
    "list_logged_model_artifacts",
    "get_registered_model",
    "search_model_versions",
    "get_model_version_by_alias",
)


@pytest.fixture(scope="module")
def empty_store(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A store with its tables made, which takes seconds, and one trial's run."""
    path = tmp_path_factory.mktemp("store") / "mlflow.db"
    client = MlflowClient(tracking_uri=f"sqlite:///{path}")
    experiment = client.create_experiment("tiny", artifact_location=(path.parent / "artifacts").as_uri())
    run = client.create_run(experiment, tags={LAUNCH_TAG: "tiny", NUMBER_TAG: "3"}, run_name="trial-003")
    for index in range(NUM_PARAMS):
        client.log_param(run.info.run_id, f"param.{index}", index)
    return path


@pytest.fixture
def client(tmp_path: Path, empty_store: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[MlflowClient]:
    monkeypatch.setattr(patience, "RETRY_S", 0.01)
    monkeypatch.setattr(patience, "FIRST_PAUSE_S", 0.001)
    shutil.copy(empty_store, tmp_path / "mlflow.db")
    with using_mlflow():
        yield MlflowClient(tracking_uri=f"sqlite:///{tmp_path / 'mlflow.db'}")


@pytest.fixture
def light(monkeypatch: pytest.MonkeyPatch) -> None:
    """Two small files instead of the seconds that an export takes."""

    def save(self: Champion, entry: LoggedModel, folder: Path) -> None:
        (folder / "data").mkdir(parents=True)
        (folder / "MLmodel").write_text(f"saved at {time.time()}")
        (folder / "data" / "model.bin").write_bytes(b"weights")

    monkeypatch.setattr(Champion, "save", save)


def checkpoint_of(folder: Path, seed: int = 1) -> str:
    """A trial's checkpoint; each seed is another student."""
    with seeded_init(seed, "student"):
        network = build_model("wrn_10_1", num_classes=3, channels=2)
    folder.mkdir(exist_ok=True)
    saved = {"arch": "wrn_10_1", "student": network.state_dict(), "epoch": seed, "measured": {"probe_kl": 0.5}}
    checkpoint.save(saved, folder / BEST_STUDENT_FILE)
    return str(folder)


def run_id(client: MlflowClient) -> str:
    (run,) = client.search_runs([client.get_experiment_by_name("tiny").experiment_id])
    return str(run.info.run_id)


def register(
    client: MlflowClient, tmp_path: Path, assets: Assets, seed: int = 1, *, trained: bool = False, patience_s: float = 20.0
) -> str:
    path = checkpoint_of(tmp_path / f"checkpoint-{seed}", seed)
    return register_newest(client, [path], assets, trained=trained, patience_s=patience_s)


def register_newest(
    client: MlflowClient,
    paths: list[str],
    assets: Assets,
    *,
    trained: bool = False,
    patience_s: float = 20.0,
    doubts: Sequence[Finding] = (),
) -> str:
    registry = Registry(client, Patience(patience_s), print, doubts=doubts)
    storage = Storage(str(Path(paths[0]).parent))
    return registry.register_newest("tiny", run_id(client), paths, storage, assets, trained=trained)


def check_once(client: MlflowClient, *, of: int = 1) -> None:
    """`of` students are as many models and versions, all whole; the last one is the champion."""
    models = client.search_logged_models([client.get_experiment_by_name("tiny").experiment_id])
    assert [model.status for model in models] == [LoggedModelStatus.READY] * of
    assert [len(model.params) for model in models] == [NUM_PARAMS] * of
    versions = sorted(client.search_model_versions("name = 'tiny'"), key=lambda version: int(version.version))
    assert sorted(version.source for version in versions) == sorted(model.model_uri for model in models)
    assert {version.run_id for version in versions} == {run_id(client)}
    assert client.get_model_version_by_alias("tiny", ALIAS).version == versions[-1].version
    outputs = client.get_run(run_id(client)).outputs.model_outputs
    assert sorted(output.model_id for output in outputs) == sorted(model.model_id for model in models)
    for model in models:
        names = {item.path for item in client.list_logged_model_artifacts(model.model_id)}
        assert {"MLmodel", "data"} <= names
        assert len(client.list_logged_model_artifacts(model.model_id, "data")) > 0


def fail(monkeypatch: pytest.MonkeyPatch, method: str, error: BaseException, *, times: int = 1, after: bool) -> None:
    """Let the first calls of a client's method fail; `after`: having done their work."""
    original: Callable[..., Any] = getattr(MlflowClient, method)
    left = iter(range(times))

    def failing(self: MlflowClient, *arguments: Any, **named: Any) -> Any:
        result = original(self, *arguments, **named) if after else None
        if next(left, None) is not None:
            raise error
        return result if after else original(self, *arguments, **named)

    monkeypatch.setattr(MlflowClient, method, failing)


def test_the_champion_is_registered_whole_and_registering_it_again_changes_nothing(
    client: MlflowClient, tmp_path: Path, assets: Assets
) -> None:
    before = mlflow.get_tracking_uri()
    assert register(client, tmp_path, assets) == "models:/tiny@champion"
    assert mlflow.get_tracking_uri() == before != client.tracking_uri
    check_once(client)
    version = client.get_model_version_by_alias("tiny", ALIAS)
    for trained in (False, True):
        assert register(client, tmp_path, assets, trained=trained) == "models:/tiny@champion"
    check_once(client)
    assert client.get_model_version_by_alias("tiny", ALIAS).last_updated_timestamp == version.last_updated_timestamp
    assert version.description.startswith("The student of trial-003 after epoch 1, launch tiny.\n\nMeasured: probe KL 0.5000.\n\n")
    assert f"--run {version.run_id} --output student" in version.description
    assert (version.tags["trial"], version.tags["probe_kl"], len(version.tags[DIGEST_TAG])) == ("3", "0.5000", 64)
    champion = Champion.load("tiny", client.get_run(run_id(client)), tmp_path / "checkpoint-1", assets)
    with tracking_at(client.tracking_uri):
        answered = mlflow.pytorch.load_model("models:/tiny@champion")(champion.example)
    torch.testing.assert_close(answered, champion.model(champion.example))


@pytest.mark.usefixtures("light")
def test_another_student_is_another_version_and_takes_the_alias(client: MlflowClient, tmp_path: Path, assets: Assets) -> None:
    for seed in (1, 2):
        register(client, tmp_path, assets, seed)
    check_once(client, of=2)
    assert client.get_model_version_by_alias("tiny", ALIAS).description.startswith("The student of trial-003 after epoch 2")


@pytest.mark.usefixtures("light")
@pytest.mark.parametrize("after", [False, True])
@pytest.mark.parametrize("method", [*STEPS, *READS])
def test_whatever_is_not_answered_is_there_once(
    client: MlflowClient, tmp_path: Path, assets: Assets, monkeypatch: pytest.MonkeyPatch, method: str, after: bool
) -> None:
    fail(monkeypatch, method, OSError("no answer"), times=3, after=after)
    register(client, tmp_path, assets)
    check_once(client)


@pytest.mark.usefixtures("light")
def test_a_champion_gives_way_to_a_newer_student_of_its_run_but_not_to_an_earlier_one(
    client: MlflowClient, tmp_path: Path, assets: Assets, capsys: pytest.CaptureFixture[str]
) -> None:
    paths = [checkpoint_of(tmp_path / f"checkpoint-{seed}", seed) for seed in (1, 2)]
    register_newest(client, paths[:1], assets)
    register_newest(client, paths, assets)  # the death came after the training and before the registration
    check_once(client, of=2)
    (Path(paths[1]) / BEST_STUDENT_FILE).write_bytes(b"damaged later")
    register_newest(client, paths, assets)
    check_once(client, of=2)
    assert client.get_model_version_by_alias("tiny", ALIAS).description.startswith("The student of trial-003 after epoch 2")
    client.delete_registered_model_alias("tiny", ALIAS)
    register_newest(client, paths, assets)
    assert client.get_model_version_by_alias("tiny", ALIAS).version == 1, "without a champion an earlier one is better than none"
    assert "an earlier checkpoint's student is registered instead" in capsys.readouterr().out


@pytest.mark.usefixtures("light")
def test_what_puts_a_champion_in_doubt_stands_with_its_version_as_it_is_known_now(
    client: MlflowClient, tmp_path: Path, assets: Assets, light: None
) -> None:
    path = checkpoint_of(tmp_path / "checkpoint")
    doubt = Finding(name="label_rate", figure="20 % are recognised", floor="floor 36 %", meaning="it is luck", remedy="more steps")
    for doubts, tag in (([doubt], "label_rate"), ([doubt, replace(doubt, name="other")], "label_rate, other"), ([], "no")):
        register_newest(client, [path], assets, trained=True, doubts=doubts)
        version = client.get_model_version_by_alias("tiny", ALIAS)
        assert (version.version, version.tags[DOUBT_TAG]) == (1, tag)
        said = "**In doubt:** 20 % are recognised (floor 36 %): it is luck; try more steps."
        assert version.description.count(said) == len(doubts)
    check_once(client)


def test_a_champion_that_an_earlier_version_has_registered_is_left_as_it_is(
    client: MlflowClient, tmp_path: Path, assets: Assets
) -> None:
    register(client, tmp_path, assets)
    version = client.get_model_version_by_alias("tiny", ALIAS).version
    client.delete_model_version_tag("tiny", version, DIGEST_TAG)
    client.delete_logged_model_tag(
        client.search_logged_models([client.get_run(run_id(client)).info.experiment_id])[0].model_id, DIGEST_TAG
    )
    register(client, tmp_path, assets)
    check_once(client)


class Death(BaseException):
    """Of the process: nothing in it cleans up behind it."""


@pytest.mark.usefixtures("light")
@pytest.mark.parametrize("method", STEPS)
def test_a_death_after_any_step_leaves_what_the_next_attempt_goes_on_with(
    client: MlflowClient, tmp_path: Path, assets: Assets, monkeypatch: pytest.MonkeyPatch, method: str
) -> None:
    with monkeypatch.context() as dying:
        fail(dying, method, Death(), after=True)
        with pytest.raises(Death):
            register(client, tmp_path, assets)
    register(client, tmp_path, assets)
    check_once(client)


@pytest.mark.usefixtures("light")
def test_what_a_server_makes_late_is_removed(
    client: MlflowClient, tmp_path: Path, assets: Assets, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Made twice although each was looked for: a request that was given up is done after the one that took its place."""
    for method in ("create_logged_model", "create_model_version"):
        original = getattr(MlflowClient, method)

        def twice(self: MlflowClient, *arguments: Any, original: Any = original, **named: Any) -> Any:
            made = original(self, *arguments, **named)
            original(self, *arguments, **named)
            return made

        monkeypatch.setattr(MlflowClient, method, twice)
    register(client, tmp_path, assets)
    check_once(client)


@pytest.mark.usefixtures("light")
def test_a_file_that_was_taken_but_not_stored_is_sent_again(
    client: MlflowClient, tmp_path: Path, assets: Assets, monkeypatch: pytest.MonkeyPatch
) -> None:
    original, taken = MlflowClient.log_model_artifact, []

    def lose_the_first(self: MlflowClient, model_id: str, path: str, folder: str | None = None) -> None:
        taken.append(Path(path).name)
        if len(taken) > 1:
            original(self, model_id, path, folder)

    monkeypatch.setattr(MlflowClient, "log_model_artifact", lose_the_first)
    register(client, tmp_path, assets)
    check_once(client)
    assert sorted(taken) == ["MLmodel", "MLmodel", "model.bin"]


@pytest.mark.usefixtures("light")
def test_a_model_that_is_not_whole_is_never_the_champion(
    client: MlflowClient, tmp_path: Path, assets: Assets, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as losing:
        losing.setattr(MlflowClient, "log_model_artifact", lambda *arguments, **named: None)
        with pytest.raises(mlflow.MlflowException, match="were not stored whole"):
            register(client, tmp_path, assets, patience_s=0.05)
    assert client.search_model_versions("name = 'tiny'") == []
    register(client, tmp_path, assets)
    check_once(client)


@pytest.mark.usefixtures("light")
def test_a_champion_whose_model_is_not_ready_is_registered_anew(client: MlflowClient, tmp_path: Path, assets: Assets) -> None:
    register(client, tmp_path, assets)
    model_id = client.get_model_version_by_alias("tiny", ALIAS).source.removeprefix("models:/")
    client.finalize_logged_model(model_id, LoggedModelStatus.FAILED)
    register(client, tmp_path, assets)
    check_once(client)


def test_a_checkpoint_that_cannot_be_read_leaves_nothing_behind(client: MlflowClient, tmp_path: Path, assets: Assets) -> None:
    path = checkpoint_of(tmp_path / "checkpoint-1")
    (Path(path) / BEST_STUDENT_FILE).write_bytes(b"not a checkpoint")
    with pytest.raises(CheckpointError):
        register_newest(client, [path], assets)
    assert client.search_logged_models([client.get_experiment_by_name("tiny").experiment_id]) == []
