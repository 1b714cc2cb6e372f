"""Sweeps that report to a real MLflow server, on SQLite and on PostgreSQL, while it comes and goes."""

import signal
import subprocess
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from mlflow import MlflowClient

from tests.support.command_line import run_cli
from tests.support.events import made
from tests.support.killing import count_epochs, end, slow_study, start, wait_for_epochs
from tests.support.misbehaving import misbehaving, not_once
from tests.support.servers import MlflowServer, Postgres, differences, mlflow_server, postgres
from tests.support.studies import tiny_study, write_study
from tuning.launch import Journal, replay_events
from tuning.launch.events import LaunchEnd, LaunchStart, Proposed
from tuning.study.config import resolve_study
from tuning.tracking import MlflowWriter, delivering
from tuning.tracking import delivery as tracking
from tuning.tracking.champion import ALIAS

pytestmark = [pytest.mark.ray, pytest.mark.timeout(600)]

SECRETS = ("hidden-secret", "hidden-password")
AWAY = "the tracking server cannot be reached; metrics are kept and delivered later"


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where all sweeps here keep their records, with one teacher and one probe set for all of them."""
    return tmp_path_factory.mktemp("tracked")


@pytest.fixture(scope="module")
def server(folder: Path) -> Iterator[MlflowServer]:
    """On SQLite; not running until a test starts it."""
    with mlflow_server(folder / "server") as server:
        yield server


@pytest.fixture
def ray_folder(monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """Where Ray keeps its logs; the path is short, for its sockets lie there, too."""
    with tempfile.TemporaryDirectory(prefix="ray-", ignore_cleanup_errors=True) as path:
        monkeypatch.setenv("RAY_TMPDIR", path)
        yield Path(path)


@pytest.fixture(autouse=True)
def credentials(monkeypatch: pytest.MonkeyPatch) -> None:
    """The other way to give a password, which no record may show either."""
    monkeypatch.setenv("MLFLOW_TRACKING_USERNAME", "somebody")
    monkeypatch.setenv("MLFLOW_TRACKING_PASSWORD", "hidden-password")


def study_file(folder: Path, name: str, uri: str, study: dict[str, Any]) -> Path:
    """`study` as one that reports to `uri`, under a name and a password that the server does not ask for."""
    changes = {"name": name, "storage": str(folder / "runs"), "tracking": {"uri": uri.replace("//", "//user:hidden-secret@")}}
    (folder / name).mkdir()
    return write_study(folder / name / "study.yaml", study | changes)


def sweep(study: Path) -> subprocess.Popen[bytes]:
    return start("sweep", study, cwd=study.parent)


def said(study: Path) -> str:
    """What a driver has printed and logged."""
    return (study.parent / "driver.log").read_text()


def wait_until(condition: Callable[[], bool], driver: subprocess.Popen[bytes], *, timeout_s: float = 60) -> None:
    deadline = time.monotonic() + timeout_s
    while not condition():
        assert driver.poll() is None, "the driver has ended"
        assert time.monotonic() < deadline
        time.sleep(0.05)


def acknowledged(launch: Path) -> int:
    path = launch / "journal.acknowledged"
    return int(path.read_text()) if path.exists() else 0


def check_complete(server: MlflowServer, launch: Path) -> None:
    """Everything that the journal tells is on the server once, and the champion among it."""
    client = MlflowClient(tracking_uri=server.uri)
    assert differences(client, launch) == []
    champion = client.get_model_version_by_alias(launch.name, ALIAS)
    assert client.get_run(champion.run_id).data.tags["launch"] == launch.name
    assert not (launch / tracking.REFUSED_FILE).exists()


def check_no_secret(*folders: Path) -> None:
    """No file but the studies' own holds a password; those of launches are for their owner's eyes only."""
    files = [file for folder in folders for file in folder.rglob("*") if file.is_file()]
    launches = [file for file in files if file.name == "study.yaml" and file.parent.parent.name == "runs"]
    assert [file.stat().st_mode & 0o777 for file in launches if b"hidden-secret" in file.read_bytes()] == [0o600] * len(launches)
    written = {file for file in files if file.name != "study.yaml" or "artifacts" in file.parts}
    assert {".log", ".jsonl", ".db", ".yaml"} <= {file.suffix for file in written}
    assert [file for file in written if any(secret.encode() in file.read_bytes() for secret in SECRETS)] == []


@pytest.mark.long
def test_a_server_that_is_never_there_gets_everything_later(folder: Path, server: MlflowServer, ray_folder: Path) -> None:
    study = study_file(folder, "never", server.uri, tiny_study())
    launch = folder / "runs" / "never"
    driver = sweep(study)
    assert driver.wait(200) == 0, said(study)
    assert said(study).count(AWAY) == 1
    assert "records wait in the journal" in said(study)
    assert "registered as" not in said(study)
    server.start()
    done = run_cli("resume", "never", "--storage", folder / "runs", cwd=folder)
    assert done.returncode == 0, done.stderr
    assert "the chosen student is registered as models:/never@champion" in done.stdout
    check_complete(server, launch)
    assert not [secret for secret in SECRETS if secret in done.stdout + done.stderr]
    assert list(ray_folder.rglob("*.log"))
    check_no_secret(folder, ray_folder)


@pytest.mark.long
def test_a_server_that_dies_in_mid_sweep_gets_everything_once(folder: Path, server: MlflowServer, ray_folder: Path) -> None:
    server.ensure()
    study = study_file(folder, "dies", server.uri, slow_study(folder) | {"search": {"num_trials": 4, "startup_trials": 4}})
    launch = folder / "runs" / "dies"
    driver = sweep(study)
    wait_for_epochs(launch, 2, driver)
    wait_until(lambda: acknowledged(launch) > 0, driver)
    server.kill()
    before = count_epochs(launch)
    wait_until(lambda: AWAY in said(study), driver)
    server.start()
    assert driver.wait(200) == 0, said(study)
    assert count_epochs(launch) > before, "trials went on without it"
    assert said(study).count(AWAY) == 1
    assert "Traceback" not in said(study)
    check_complete(server, launch)
    assert list(ray_folder.rglob("*.log"))
    check_no_secret(folder, ray_folder)


@pytest.mark.long
@pytest.mark.skipif(bool(Postgres.missing()), reason=Postgres.missing())
def test_postgresql_the_server_and_the_driver_die_one_after_another(folder: Path) -> None:
    with postgres() as database, mlflow_server(folder / "on-postgres", backend=database.uri) as server:
        server.start()
        endless = {"search": {"num_trials": 1000, "startup_trials": 1000, "max_concurrent": 2}, "prune": {"scheduler": "none"}}
        study = study_file(folder, "postgres", server.uri, slow_study(folder) | endless)
        launch = folder / "runs" / "postgres"
        driver = sweep(study)
        wait_for_epochs(launch, 1, driver)
        wait_until(lambda: acknowledged(launch) > 0, driver)
        database.stop()
        wait_until(lambda: AWAY in said(study), driver)
        position = acknowledged(launch)
        database.start()
        wait_until(lambda: acknowledged(launch) > position, driver)
        server.kill()
        wait_until(lambda: said(study).count(AWAY) == 2, driver)
        assert end(driver, signal.SIGKILL) == -signal.SIGKILL
        server.start()
        started = len(replay_events(Journal(launch).events(), metric="best_probe_agreement").trials)
        done = run_cli("resume", "postgres", "--storage", folder / "runs", "--num-trials", str(started), cwd=folder)
        assert done.returncode == 0, done.stderr
        check_complete(server, launch)
    check_no_secret(folder)


@pytest.mark.long
def test_a_server_of_which_one_answer_in_ten_is_wrong_gets_everything_once(
    folder: Path, server: MlflowServer, ray_folder: Path
) -> None:
    server.ensure()
    with misbehaving(server, p=0.1, seed=2) as proxy:
        study = study_file(folder, "misbehaves", proxy.uri, tiny_study())
        assert sweep(study).wait(300) == 0, said(study)
    assert len(proxy.given) > 5, "the usual ways, or most of them"
    assert "the chosen student is registered as models:/misbehaves@champion" in said(study)
    assert "Traceback" not in said(study)
    assert not_once(MlflowClient(tracking_uri=server.uri), folder / "runs" / "misbehaves") == []


def test_a_server_that_hangs_while_a_run_is_made_makes_one_and_stops_nobody(
    tmp_path: Path, server: MlflowServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    server.ensure()
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_TIMEOUT", "1")
    study = resolve_study(tiny_study() | {"name": "hangs", "storage": str(tmp_path), "tracking": {"uri": server.uri}})
    (tmp_path / "hangs").mkdir()
    journal = Journal(tmp_path / "hangs")
    journal.append(made(LaunchStart, time=1.0, launch_id="hangs"))
    original, hanging = MlflowClient.create_run, threading.Event()

    def hang(self: MlflowClient, *arguments: Any, **named: Any) -> Any:
        if not hanging.is_set():
            hanging.set()
            server.hang(3)
        return original(self, *arguments, **named)

    monkeypatch.setattr(MlflowClient, "create_run", hang)
    with delivering(MlflowWriter(journal, study, "hangs", "hangs")) as writer:
        assert hanging.wait(60)
        started = time.monotonic()
        for number in range(100):
            journal.append(made(Proposed, time=2.0, number=number))
        assert time.monotonic() - started < 1, "recording waits for no server"
        journal.append(made(LaunchEnd, time=3.0))
    assert writer.undelivered == writer.num_refused == 0
    assert differences(MlflowClient(tracking_uri=server.uri), tmp_path / "hangs") == []
