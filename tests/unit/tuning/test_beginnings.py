"""What is made in several steps, by a process that is killed before each: nothing half-made is taken for whole, or blocks."""

import itertools
import os
import shutil
import signal
import sqlite3
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy
from mlflow import MlflowClient

from cpsc.atomic_file import atomic_path
from cpsc.errors import ConfigError
from tests.support.events import made
from tests.support.killing import dies_at, forked
from tuning.launch import DriverLock, Journal
from tuning.launch import folder as launch_folder
from tuning.launch.events import LaunchStart
from tuning.launch.folder import FORGOTTEN_S, claim, clear_forgotten, launches_in
from tuning.launch.launch import new_launch, open_launch
from tuning.storage import Storage
from tuning.study import Study
from tuning.study.config import resolve_study
from tuning.tracking import store_file
from tuning.tracking.store_file import DATABASE_FILE, ensure_store_file, holds_anything, is_whole, prefix

pytestmark = pytest.mark.slow  # processes are forked and killed
START = made(LaunchStart)


def make_launch(study: Study) -> None:
    with new_launch(study, START):
        pass


def names(folder: Path) -> list[str]:
    return [launch.name for launch in launches_in(folder)]


@pytest.fixture(params=["one root", "records apart"])
def study_in(request: pytest.FixtureRequest, raw: dict[str, Any]) -> Callable[[Path], Study]:
    """Makes a study whose files lie in a folder."""

    def study(folder: Path) -> Study:
        apart = {"local": str(folder / "local")} if request.param == "records apart" else {}
        return resolve_study(raw | {"storage": str(folder / "storage")} | apart)

    return study


@pytest.fixture
def study(study_in: Callable[[Path], Study], tmp_path: Path) -> Study:
    return study_in(tmp_path)


def test_a_launch_that_is_killed_as_it_begins_is_whole_or_not_there(study_in: Callable[[Path], Study], tmp_path: Path) -> None:
    for step in itertools.count():
        study = study_in(tmp_path / str(step))
        if not dies_at(step, lambda study=study: make_launch(study), within=tmp_path):  # type: ignore[misc]
            break
        for name in names(study.local):
            assert [event.kind for event in Journal(study.local / name).events()] == ["launch_start"]
            assert open_launch(str(study.local), name, []).name == "small"
            assert DriverLock(study.local / name).try_acquire(), "its driver is dead"
        before = names(study.local)
        with new_launch(study, START) as name:
            assert name not in before
            assert not DriverLock(study.local / name).try_acquire()
    assert step > 6


def test_remains_of_a_beginning_are_not_listed_do_not_take_a_name_and_go_in_time(
    study: Study, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert dies_at(8, lambda: make_launch(study), within=study.local)
    (room,) = study.local.glob(f"{launch_folder.ROOM}*")
    with pytest.raises(ConfigError, match="launches there: none"):
        open_launch(str(study.local), "small", [])
    clear_forgotten(study.local)
    assert room.exists(), "it may be at work"
    monkeypatch.setattr(launch_folder, "FORGOTTEN_S", -1.0)
    with DriverLock(room):
        clear_forgotten(study.local)
        assert room.exists(), "it is at work"
    clear_forgotten(study.local)
    assert not room.exists()
    assert FORGOTTEN_S > 600


@pytest.mark.parametrize(
    "content", [{}, {"study.yaml": ""}, {"study.yaml": "name: sm", "driver.lock": "", "journal.jsonl": '{"ki'}]
)
def test_what_earlier_versions_left_before_the_first_record_is_no_launch(
    content: dict[str, str], raw: dict[str, Any], tmp_path: Path
) -> None:
    study = resolve_study(raw | {"storage": str(tmp_path)})
    (tmp_path / "small").mkdir()
    for name, text in content.items():
        (tmp_path / "small" / name).write_text(text)
    assert names(tmp_path) == []
    with pytest.raises(ConfigError, match=r"launches there: none|it never began; run its study again"):
        open_launch(str(tmp_path), "small", [])
    with new_launch(study, START) as name:
        assert name == "small"


def test_a_folder_with_anything_else_in_it_keeps_its_name(raw: dict[str, Any], tmp_path: Path) -> None:
    (tmp_path / "small" / "attempt-000").mkdir(parents=True)
    with new_launch(resolve_study(raw | {"storage": str(tmp_path)}), START) as name:
        assert name == "small-2"


def begin_together(study: Study, count: int, gate: Path) -> list[int]:
    """So many processes that begin a launch at once and drive it until they are killed -> their ids."""

    def begin() -> None:
        while not gate.exists():
            pass
        with new_launch(study, START):
            signal.pause()

    return [forked(begin) for _ in range(count)]


def test_of_launches_that_begin_together_each_has_a_folder_and_its_lock(study: Study, tmp_path: Path) -> None:
    children = begin_together(study, 5, tmp_path / "gate")
    try:
        (tmp_path / "gate").touch()
        deadline = time.monotonic() + 60
        taken: set[str] = set()
        while len(names(study.local)) < 5 and time.monotonic() < deadline:
            for folder in launches_in(study.local):  # a third one's clean-up, which must find all of them alive
                lock = DriverLock(folder, closing=True)
                taken |= {folder.name} if lock.try_acquire() else set()
                lock.release()
    finally:
        for child in children:
            os.kill(child, signal.SIGKILL)
            os.waitpid(child, 0)
    assert taken == set()
    assert names(study.local) == ["small", "small-2", "small-3", "small-4", "small-5"]


class Objects(Storage):
    """A folder that is used as a storage of objects is: no claim by making a folder."""

    @property
    def is_local(self) -> bool:
        return False


def test_a_name_in_a_storage_of_objects_goes_to_one_at_most(tmp_path: Path) -> None:
    storage = Objects(str(tmp_path))
    assert claim(storage, "small", "name: small")
    assert [path.name for path in (tmp_path / "small").iterdir()] == ["study.yaml"]
    assert not claim(storage, "small", "name: small")


def test_who_sees_another_claim_in_a_storage_of_objects_goes_on(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    storage = Objects(str(tmp_path))
    monkeypatch.setattr(Objects, "exists", lambda storage, name: False)  # both have looked before either has left a mark
    monkeypatch.setattr(launch_folder, "MAX_PAUSE_S", 0.0)
    storage.write_token("small/.claim-other", b"claimed")
    assert not claim(storage, "small", "name: small")
    assert [path.name for path in (tmp_path / "small").iterdir()] == [".claim-other"]


# MLflow's database


@pytest.fixture(scope="module")
def template(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A new store, made once."""
    path = tmp_path_factory.mktemp("template") / DATABASE_FILE
    ensure(path)
    return path


def ensure(path: Path) -> None:
    ensure_store_file(path, lambda new: f"sqlite:///{new}", artifacts=path.parent / "mlflow-artifacts")


@pytest.fixture
def quickly(template: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """New stores are copies of one that MLflow has made."""
    monkeypatch.setattr(
        store_file, "_make", lambda uri, artifacts: shutil.copy(template, sqlalchemy.make_url(uri).database or "") and None
    )
    monkeypatch.setattr(store_file, "SETTLED_S", 0.0)
    return


def statements_of(template: Path) -> list[str]:
    with sqlite3.connect(template) as connection:
        return [
            text for (text,) in connection.execute("SELECT sql FROM sqlite_master WHERE sql IS NOT NULL ORDER BY type = 'index'")
        ]


def half_made(path: Path, template: Path, count: int) -> None:
    """The first `count` tables of a store, as MLflow leaves them where it is killed."""
    with sqlite3.connect(path) as connection:
        for statement in statements_of(template)[:count]:
            if "sqlite_" not in statement:
                connection.execute(statement)


def test_a_new_store_is_whole_and_holds_nothing(template: Path) -> None:
    assert is_whole(template)
    assert not holds_anything(template)
    assert [experiment.name for experiment in MlflowClient(f"sqlite:///{template}").search_experiments()] == ["Default"]


def test_a_making_that_is_killed_in_the_midst_of_the_tables_leaves_no_store(tmp_path: Path) -> None:
    def make_and_die() -> None:
        left = itertools.count(30, -1)

        def die_in_time(*arguments: object) -> None:
            if next(left) == 0:
                os.kill(os.getpid(), signal.SIGKILL)

        sqlalchemy.event.listen(sqlalchemy.Engine, "before_cursor_execute", die_in_time)
        ensure(tmp_path / DATABASE_FILE)

    assert dies_at(10_000, make_and_die, within=tmp_path)
    assert not (tmp_path / DATABASE_FILE).exists()
    assert next(tmp_path.glob(f"{prefix(Path(DATABASE_FILE))}*/{DATABASE_FILE}")).stat().st_size > 0


@pytest.mark.usefixtures("quickly")
@pytest.mark.parametrize("tables", [None, 0, 1, 3, 20], ids=lambda tables: f"{tables} tables there")
def test_a_store_is_whole_or_not_there_however_often_its_making_is_killed(
    tables: int | None, template: Path, tmp_path: Path
) -> None:
    path = tmp_path / DATABASE_FILE
    if tables is not None:
        half_made(path, template, tables)
    for step in itertools.count():
        if not dies_at(step, lambda: ensure(path), within=tmp_path):
            break
        assert tables is not None or not path.exists() or is_whole(path)
    assert step > (8 if tables is None else 2)
    assert is_whole(path)
    left = {name.name for name in tmp_path.iterdir()}
    assert left <= {DATABASE_FILE, f"{prefix(Path(DATABASE_FILE))}lock", f"{DATABASE_FILE}.half-made"}
    MlflowClient(f"sqlite:///{path}").create_experiment("small")


@pytest.mark.usefixtures("quickly")
def test_a_half_made_store_is_put_aside_in_a_line_with_what_sqlite_has_left_beside_it(
    template: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    path = tmp_path / DATABASE_FILE
    for name in ("half-made", "half-made-2"):
        half_made(path, template, 3)
        ensure(path)
        assert is_whole(path)
        assert (
            caplog.messages[-1] == f"{path} was left half-made and is empty; it is moved to {DATABASE_FILE}.{name} and made again"
        )
        path.unlink()
    path.with_name(f"{DATABASE_FILE}-journal").write_bytes(b"of a database that is no more")
    ensure(path)
    assert not path.with_name(f"{DATABASE_FILE}-journal").exists()


@pytest.mark.usefixtures("quickly")
def test_a_store_that_holds_anything_or_cannot_be_read_is_left_as_it_is(template: Path, tmp_path: Path) -> None:
    path = tmp_path / DATABASE_FILE
    shutil.copy(template, path)
    MlflowClient(f"sqlite:///{path}").create_experiment("small")
    with sqlite3.connect(path) as connection:
        connection.execute("UPDATE alembic_version SET version_num = 'of another version'")
    before = path.read_bytes()
    ensure(path)
    assert path.read_bytes() == before
    path.write_text("no database")
    ensure(path)
    assert path.read_text() == "no database"


@pytest.mark.usefixtures("quickly")
def test_of_two_that_make_a_store_at_once_neither_treads_on_the_other(tmp_path: Path) -> None:
    path = tmp_path / DATABASE_FILE
    children = [forked(lambda: ensure(path)) for _ in range(4)]
    assert [os.waitpid(child, 0)[1] for child in children] == [0] * 4
    assert is_whole(path)
    assert sorted(name.name for name in tmp_path.iterdir()) == [f"{prefix(Path(DATABASE_FILE))}lock", DATABASE_FILE]


# Files


def write_atomically(path: Path) -> None:
    with atomic_path(path) as temporary:
        temporary.write_text("after")


@pytest.mark.parametrize(
    "write",
    [
        write_atomically,
        lambda path: Journal(path.parent).acknowledge(12),
        lambda path: Journal(path.parent).drop_repeated_lines(),
    ],
    ids=["atomic", "acknowledged", "repaired"],
)
def test_a_file_that_is_killed_as_it_is_written_is_as_it_was_or_as_it_will_be(
    write: Callable[[Path], None], tmp_path: Path
) -> None:
    path = tmp_path / "journal.acknowledged"
    path.write_text("before")
    (tmp_path / "journal.jsonl").write_text("{}\n{}\n")
    states = []
    for step in itertools.count():
        was_killed = dies_at(step, lambda: write(path), within=tmp_path)
        states.append((path.read_bytes(), (tmp_path / "journal.jsonl").read_bytes()))
        if not was_killed:
            break
    assert step > 1
    assert {state[0] for state in states} <= {b"before", b"0", states[-1][0]}
    assert {state[1] for state in states} <= {b"{}\n{}\n", states[-1][1]}
