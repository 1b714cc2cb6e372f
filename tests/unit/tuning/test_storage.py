"""Storage on folders: the same contract as on S3, which tests/integration/test_s3.py holds it to."""

import pickle
from pathlib import Path

import pytest

from cpsc.errors import CheckpointError, ConfigError
from tuning.storage import Storage


@pytest.fixture(params=["path", "uri"])
def storage(request: pytest.FixtureRequest, tmp_path: Path) -> Storage:
    folder = tmp_path / "storage"
    return Storage(str(folder) if request.param == "path" else folder.as_uri())


def test_names_are_relative_to_the_root(storage: Storage, tmp_path: Path) -> None:
    assert storage.is_local
    assert storage.root == str(tmp_path / "storage")
    assert storage.path("teachers/a.pt") == str(tmp_path / "storage" / "teachers" / "a.pt")
    assert not storage.exists("teachers/a.pt")
    assert storage.names("teachers") == []


def test_a_folder_is_written_and_read_in_place(storage: Storage, tmp_path: Path) -> None:
    with storage.writing("a.pt") as path:
        assert path == tmp_path / "storage" / "a.pt"
        path.parent.mkdir()
        path.write_bytes(b"content")
    assert storage.exists("a.pt")
    assert storage.size("a.pt") == len(b"content")
    with storage.reading(storage.path("a.pt")) as read:
        assert read == path


def test_put_replaces_whole_files_and_leaves_no_part(storage: Storage, tmp_path: Path) -> None:
    for content in (b"first", b"second"):
        (tmp_path / "file").write_bytes(content)
        storage.put(tmp_path / "file", "launch/journal.jsonl")
    assert (tmp_path / "storage" / "launch" / "journal.jsonl").read_bytes() == b"second"
    assert storage.names("launch") == ["journal.jsonl"]


def test_a_copy_that_cannot_take_its_name_leaves_no_part(storage: Storage, tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"content")
    (tmp_path / "storage" / "journal.jsonl" / "in the way").mkdir(parents=True)
    with pytest.raises(CheckpointError, match=r"journal\.jsonl: cannot be written"):
        storage.put(tmp_path / "file", "journal.jsonl")
    assert storage.names() == ["journal.jsonl"]


def test_checking_leaves_nothing_behind(storage: Storage, tmp_path: Path) -> None:
    storage.check()
    assert not any(tmp_path.iterdir())


def test_a_folder_below_a_file_is_refused(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(ConfigError, match="cannot be written"):
        Storage(str(tmp_path / "file" / "runs")).check()


def test_what_arrow_does_not_know_is_refused_without_its_password() -> None:
    with pytest.raises(ConfigError, match="not a storage that Arrow supports") as refused:
        Storage("nowhere://user:hidden@host/folder")
    assert "hidden" not in str(refused.value)


def test_it_travels_to_other_processes(storage: Storage) -> None:
    there = pickle.loads(pickle.dumps(storage))
    assert (there.root, there.location) == (storage.root, storage.location)
