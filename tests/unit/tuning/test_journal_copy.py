"""A launch's journal beside its checkpoints: what is called safe is there."""

from pathlib import Path

import pytest

from cpsc.errors import CheckpointError
from tests.support.events import made
from tuning.launch import Journal
from tuning.launch import journal_backup as journal_copy
from tuning.launch.events import LaunchEnd, LaunchStart
from tuning.launch.journal_backup import JournalBackup
from tuning.storage import Storage


@pytest.fixture
def journal(tmp_path: Path) -> Journal:
    (tmp_path / "local" / "launch").mkdir(parents=True)
    journal = Journal(tmp_path / "local" / "launch")
    journal.append(made(LaunchStart))
    return journal


def test_without_a_storage_of_its_own_all_is_safe_once_synced(journal: Journal) -> None:
    copy = JournalBackup(journal, None, "launch")
    assert copy.sync(at_once=False) == journal.path.stat().st_size


def test_only_what_was_copied_is_safe(journal: Journal, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(journal_copy, "PAUSE_S", 3600)
    copy = JournalBackup(journal, Storage(str(tmp_path / "storage")), "launch")
    first = copy.sync(at_once=False)
    assert first == journal.path.stat().st_size
    journal.append(made(LaunchEnd))
    assert copy.sync(at_once=False) == first, "the next copy is not due yet"
    assert copy.sync(at_once=True) == journal.path.stat().st_size
    assert (tmp_path / "storage" / "launch" / "journal.jsonl").read_bytes() == journal.path.read_bytes()


def test_a_storage_that_is_away_is_an_error_and_nothing_is_called_safe(journal: Journal, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    copy = JournalBackup(journal, Storage(str(tmp_path / "file")), "launch")
    with pytest.raises(CheckpointError, match="cannot be written"):
        copy.sync(at_once=True)


def test_parts_of_copies_that_were_killed_are_removed(journal: Journal, tmp_path: Path) -> None:
    folder = tmp_path / "storage" / "launch"
    folder.mkdir(parents=True)
    for name in ("journal.jsonl.0123.part", "other.part"):
        (folder / name).write_text("")
    JournalBackup(journal, Storage(str(tmp_path / "storage")), "launch").sync(at_once=True)
    assert sorted(path.name for path in folder.iterdir()) == ["journal.jsonl", "other.part"]
