"""MLflow's database as a file beside the launches: complete from the moment it exists, even if its creation is killed.

MLflow creates its tables in place, in many transactions that take seconds, and cannot continue if it is killed in between.
"""

import contextlib
import glob
import logging
import os
import sqlite3
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import mlflow

from tuning.file_lock import FileLock

logger = logging.getLogger(__name__)

DATABASE_FILE = "mlflow.db"
COMPANIONS = ("-journal", "-wal", "-shm")
"""SQLite's files beside a database, which are replayed into any database opened under that name."""
HALF_MADE = "half-made"
SETTLED_S = 5.0
"""Seconds for which an empty store must not have changed before it is replaced: another MLflow may be creating its tables."""
LOCK_WAIT_S = 120.0
BUSY_S = 20.0


def ensure_store_file(path: Path, uri_of: Callable[[Path], str], *, artifacts: Path) -> None:
    """Create the store at `path` if there is none; move aside one that was left half-made, and create it again.

    A store with any content is left as it is. `uri_of`: the URI of a store at a path; `artifacts`: where runs
    of the default experiment keep files. OSError or ConfigError if it cannot be written or locked.
    """
    if holds_anything(path):
        return
    path.parent.mkdir(parents=True, exist_ok=True)
    with FileLock(path.with_name(f"{prefix(path)}lock"), note="makes the MLflow store").held(LOCK_WAIT_S):
        _remove_remains(path)
        if holds_anything(path) or is_whole(path):  # another sweep may have made it meanwhile
            return
        with tempfile.TemporaryDirectory(dir=path.parent, prefix=prefix(path)) as folder:
            new = Path(folder) / path.name
            _make(uri_of(new), artifacts)
            if path.exists():
                _wait_until_settled(path)
                if holds_anything(path) or is_whole(path):
                    return
                aside = _put_aside(path)
                logger.warning("%s was left half-made and is empty; it is moved to %s and made again", path, aside.name)
            _put_in_place(new, path)


def prefix(path: Path) -> str:
    """Prefix of the temporary files and the lock, beside `path`, for making the store."""
    return f".{path.name}-"


def holds_anything(path: Path) -> bool:
    """Whether the database at `path` has more content than a new one of MLflow's; also true if it cannot be read."""
    if not path.exists():
        return False
    try:
        with _opened(path) as connection:
            return any(_has_rows(connection, table) for table in _tables(connection))
    except sqlite3.DatabaseError:
        return True


def is_whole(path: Path) -> bool:
    """Whether MLflow has finished creating this version's tables in the database at `path`; its version mark is written last."""
    if not path.exists():
        return False
    with _opened(path) as connection:
        if "alembic_version" not in _tables(connection):
            return False
        versions = connection.execute("SELECT version_num FROM alembic_version").fetchall()
    from alembic.script import ScriptDirectory

    migrations = Path(mlflow.__file__).parent / "store" / "db_migrations"
    return versions == [(ScriptDirectory(str(migrations)).get_current_head(),)]


def _opened(path: Path) -> contextlib.closing[sqlite3.Connection]:
    """A connection that does not create a missing file."""
    return contextlib.closing(sqlite3.connect(f"{path.absolute().as_uri()}?mode=rw", timeout=BUSY_S, uri=True))


def _tables(connection: sqlite3.Connection) -> list[str]:
    found = connection.execute("SELECT name FROM sqlite_master WHERE type = 'table' AND name NOT LIKE 'sqlite_%'")
    return [name for (name,) in found]


def _has_rows(connection: sqlite3.Connection, table: str) -> bool:
    """Whether `table` holds recorded data, other than the version mark and what every new store contains."""
    if table in ("alembic_version", "workspaces"):
        return False
    rest = " WHERE name != 'Default'" if table == "experiments" else ""
    quoted = table.replace('"', '""')
    return connection.execute(f'SELECT 1 FROM "{quoted}"{rest} LIMIT 1').fetchone() is not None


def _make(uri: str, artifacts: Path) -> None:
    from mlflow.store.tracking.sqlalchemy_store import SqlAlchemyStore  # takes seconds, which only a local store needs

    store = SqlAlchemyStore(uri, artifacts.as_uri())
    store.engine.dispose()  # the file moves: no connection may stay open


def _wait_until_settled(path: Path) -> None:
    while 0 <= (age := time.time() - path.stat().st_mtime) < SETTLED_S:  # below zero if the clock was set back
        time.sleep(SETTLED_S - age)


def _put_aside(path: Path) -> Path:
    """Rename the database, then its companions -> its new name."""
    names = (path.with_name(f"{path.name}.{HALF_MADE}{f'-{number}' if number > 1 else ''}") for number in range(1, 10_000))
    aside = next(name for name in names if not name.exists())
    path.rename(aside)
    for suffix in COMPANIONS:
        companion = path.with_name(path.name + suffix)
        if companion.exists():
            companion.rename(aside.with_name(aside.name + suffix))
    return aside


def _put_in_place(new: Path, path: Path) -> None:
    """Put the complete store in place atomically, synced to disk, without companions of an earlier file."""
    for suffix in COMPANIONS:
        path.with_name(path.name + suffix).unlink(missing_ok=True)  # left from a file that is gone
    _sync(new)
    new.rename(path)
    _sync(path.parent)


def _sync(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _remove_remains(path: Path) -> None:
    """Remove what a killed process left; the lock ensures that no other one is at work."""
    for remains in path.parent.glob(f"{glob.escape(prefix(path))}*"):
        if remains.is_dir():
            for file in remains.iterdir():
                file.unlink(missing_ok=True)
            remains.rmdir()
