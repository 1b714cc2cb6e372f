"""Checkpoints on a real S3 API (moto's server, on loopback): written by trials, fetched on resume and for MLflow."""

import signal
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from moto.server import ThreadedMotoServer
from pyarrow import fs

from cpsc.errors import ConfigError
from tests.conftest import run_cli, write_study
from tests.killing import end, recorded_curves, slow_study, start, wait_for_epochs
from tuning.checkpoint_store import CheckpointStore

pytestmark = [pytest.mark.ray, pytest.mark.timeout(400)]


@pytest.fixture(scope="module")
def bucket() -> Iterator[str]:
    """A bucket's URI, with credentials in it that no record may show."""
    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0)
    server.start()
    host, port = server.get_host_and_port()
    uri = f"s3://key:hidden-secret@studies?endpoint_override=http%3A%2F%2F{host}%3A{port}&allow_bucket_creation=true"
    fs.FileSystem.from_uri(uri)[0].create_dir("studies")
    yield uri
    server.stop()


def test_what_is_written_comes_back(bucket: str, tmp_path: Path) -> None:
    store = CheckpointStore(bucket, tmp_path / "launch")
    store.check()
    with store.filesystem.open_output_stream(f"{store.root}/trial/checkpoint_000000/state.pt") as stream:
        stream.write(b"state")
    with store.local(f"{store.root}/trial/checkpoint_000000") as folder:
        assert (folder / "state.pt").read_bytes() == b"state"


def test_a_storage_that_is_not_there_is_said_before_the_work(bucket: str, tmp_path: Path) -> None:
    uri = bucket.replace("@studies", "@absent").replace("&allow_bucket_creation=true", "")
    with pytest.raises(ConfigError, match="cannot be written and read") as refused:
        CheckpointStore(uri, tmp_path).check()
    assert "hidden-secret" not in str(refused.value)
    with pytest.raises(ConfigError, match="no storage that Arrow knows"):
        CheckpointStore("nowhere://at/all", tmp_path)


def test_a_killed_sweep_goes_on_from_checkpoints_on_s3(bucket: str, tmp_path: Path) -> None:
    study: dict[str, Any] = slow_study(tmp_path) | {"checkpoint": {"storage": bucket}}
    study["search"]["num_trials"] = 3
    driver = start("sweep", write_study(tmp_path / "tiny.yaml", study), cwd=tmp_path)
    folder = tmp_path / "runs" / "tiny"
    wait_for_epochs(folder, 4, driver)
    end(driver, signal.SIGKILL)
    done = run_cli("resume", "tiny", "--storage", tmp_path / "runs", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert not list(folder.rglob("state.pt")), "checkpoints are on S3 only"
    curves = recorded_curves(tmp_path / "runs")
    assert sorted(curves) == list(range(3))
    for curve in (metrics["student/kl"] for metrics in curves.values()):
        assert [epoch for epoch, _ in curve] == list(range(1, len(curve) + 1))
    assert list((tmp_path / "runs" / "mlflow-artifacts").rglob("best_student.pt")), "MLflow has a copy of its own"
    records = [file for file in (tmp_path / "runs").rglob("*") if file.is_file() and file.name != "study.yaml"]
    leaks = [file for file in records if file.suffix != ".pkl" and b"hidden-secret" in file.read_bytes()]
    assert not leaks
    assert "hidden-secret" not in (tmp_path / "driver.log").read_text() + done.stdout + done.stderr
