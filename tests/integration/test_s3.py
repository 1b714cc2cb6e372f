"""Everything that nodes share on a real S3 API (moto's server, on loopback): teachers, probe sets, checkpoints, records."""

import signal
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from moto.server import ThreadedMotoServer
from pyarrow import fs

from cpsc.data import DatasetConfig, load_dataset
from cpsc.errors import CheckpointError, ConfigError, DataError
from tests.support.command_line import run_cli
from tests.support.killing import end, recorded_curves, slow_study, start, wait_for_epochs
from tests.support.studies import write_study
from tests.unit.cpsc.data.files import cell, pixels, write_parquet
from tuning.launch import Journal, LaunchHistory, replay_events
from tuning.launch.events import Epoch
from tuning.storage import Storage

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


def test_what_is_written_comes_back_whole(bucket: str, tmp_path: Path) -> None:
    storage = Storage(bucket)
    storage.check()
    with storage.writing("teachers/teacher.pt") as path:
        path.write_bytes(b"weights")
    (tmp_path / "state.pt").write_bytes(b"state")
    storage.put(tmp_path / "state.pt", "launch/checkpoint_000000/state.pt")
    assert storage.exists("teachers/teacher.pt")
    assert not storage.exists("teachers/absent.pt")
    assert storage.names("teachers") == ["teacher.pt"], "no part of a file stays behind"
    assert storage.size("teachers/teacher.pt") == len(b"weights")
    with storage.reading(storage.path("teachers/teacher.pt")) as file:
        assert file.read_bytes() == b"weights"
    with storage.reading(storage.path("launch/checkpoint_000000")) as folder:
        assert (folder / "state.pt").read_bytes() == b"state"
    with pytest.raises(CheckpointError, match="cannot be fetched"), storage.reading(storage.path("absent")):
        pytest.fail("there is nothing to read")


def test_a_write_that_fails_leaves_what_was_there(bucket: str) -> None:
    storage = Storage(bucket)
    with storage.writing("kept.pt") as path:
        path.write_bytes(b"old")
    with pytest.raises(CheckpointError, match="cannot be written"), storage.writing("kept.pt"):
        pass  # nothing was written there to be put
    with storage.reading(storage.path("kept.pt")) as file:
        assert file.read_bytes() == b"old"


def test_a_storage_that_is_not_there_is_said_before_the_work(bucket: str) -> None:
    uri = bucket.replace("@studies", "@absent").replace("&allow_bucket_creation=true", "")
    with pytest.raises(ConfigError, match="cannot be written") as refused:
        Storage(uri).check()
    assert "hidden-secret" not in str(refused.value)
    with pytest.raises(ConfigError, match="not a storage that Arrow supports"):
        Storage("nowhere://at/all")


def test_a_dataset_of_parquet_files_is_read_from_s3(bucket: str, tmp_path: Path) -> None:
    images = pixels(6, size=8)
    for part, rows, labels in (("train", images[:4], [0, 1, 1, 0]), ("test", images[4:], [1, 0])):
        columns = {"img": [cell(image) for image in rows], "label": labels}
        write_parquet(tmp_path / f"{part}-0.parquet", columns, names=("cat", "dog"))
    filesystem, root = fs.FileSystem.from_uri(bucket)
    fs.copy_files(str(tmp_path), f"{root}/images", destination_filesystem=filesystem)

    uri = bucket.replace("@studies?", "@studies/images?")
    dataset = load_dataset(DatasetConfig(name="parquet", path=uri))
    assert dataset.digest == load_dataset(DatasetConfig(name="parquet", path=str(tmp_path))).digest
    assert dataset.class_names == ("cat", "dog")
    assert (dataset.train.labels.tolist(), dataset.test.labels.tolist()) == ([0, 1, 1, 0], [1, 0])
    with filesystem.open_output_stream(f"{root}/images/test-0.parquet") as stream:
        stream.write(b"PAR1")
    with pytest.raises(DataError, match=r"^s3://studies/images/test-0.parquet: not a readable Parquet file") as refused:
        load_dataset(DatasetConfig(name="parquet", path=uri))
    assert "hidden-secret" not in str(refused.value)
    with pytest.raises(DataError, match="dataset parquet: s3://studies/absent is not a folder"):
        load_dataset(DatasetConfig(name="parquet", path=bucket.replace("@studies?", "@studies/absent?")))


def history(folder: Path) -> LaunchHistory:
    return replay_events(Journal(folder).events(), metric="best_probe_agreement")


def spoil_newest_checkpoint(storage: Storage, folder: Path) -> int:
    """Cut off the newest checkpoint of a trial that has an older one and is not over -> the trial's number."""
    trial = next(trial for trial in history(folder).trials.values() if not trial.is_over and len(trial.checkpoints) > 1)
    with storage.filesystem.open_output_stream(f"{trial.checkpoints[-1]}/state.pt") as stream:
        stream.write(b"PK")
    return trial.number


@pytest.mark.long
def test_a_killed_sweep_goes_on_from_s3_on_another_machine(bucket: str, tmp_path: Path) -> None:
    """The first machine's disk is lost with its driver; and what it wrote last is cut off."""
    here, there, bucket = tmp_path / "here", tmp_path / "there", bucket.replace("@studies?", "@studies/of/a/team?")
    here.mkdir()
    there.mkdir()
    study: dict[str, Any] = slow_study(here) | {"storage": bucket, "local": "runs"}
    study["search"]["num_trials"] = 3
    driver = start("sweep", write_study(here / "tiny.yaml", study), cwd=here)
    journal, storage = here / "runs" / "tiny" / "journal.jsonl", Storage(bucket)
    wait_for_epochs(journal.parent, 4, driver)
    deadline = time.monotonic() + 60
    recorded = journal.stat().st_size
    while storage.size("tiny/journal.jsonl") < recorded and time.monotonic() < deadline:
        time.sleep(0.1)
    end(driver, signal.SIGKILL)
    spoilt = spoil_newest_checkpoint(storage, journal.parent)

    done = run_cli("resume", "tiny", "--storage", bucket, cwd=there)
    assert done.returncode == 0, done.stderr
    assert not list((there / "runs" / "tiny").rglob("state.pt")), "checkpoints are on S3 only"
    assert [len(storage.names(folder)) for folder in ("teachers", "probes")] == [1, 1], "both were made once"
    assert not [name for name in storage.names("tiny/attempt-000") if name.endswith((".pkl", ".json"))], "no state of Ray's stays"
    after = history(there / "runs" / "tiny")
    curves = recorded_curves(there / "runs")
    assert sorted(curves) == sorted(after.trials) == list(range(3))
    for number, metrics in curves.items():
        assert [epoch for epoch, _ in metrics["student/kl"]] == list(range(1, after.trials[number].last_epoch + 1))
    notes = {
        event.number: event.note for event in Journal(there / "runs" / "tiny").events() if isinstance(event, Epoch) and event.note
    }
    assert "not a readable trial checkpoint" in notes[spoilt]
    assert Storage(bucket).size("tiny/journal.jsonl") == (there / "runs" / "tiny" / "journal.jsonl").stat().st_size

    records = [file for file in tmp_path.rglob("*") if file.is_file() and file.name not in ("study.yaml", "tiny.yaml")]
    assert not [file for file in records if b"hidden-secret" in file.read_bytes()]
    assert "hidden-secret" not in (here / "driver.log").read_text() + done.stdout + done.stderr
    with storage.reading(storage.path("tiny")) as copy:
        assert not [file for file in copy.rglob("*") if file.is_file() and b"hidden-secret" in file.read_bytes()]
