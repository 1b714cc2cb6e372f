"""Creation of a launch's folder: it is filled under a hidden name, and the rename to its own name claims that name."""

import errno
import os
import random
import shutil
import time
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tuning.launch.journal import ACKNOWLEDGED_NAME, JOURNAL_FILE, LOCK_NAME, DriverLock
from tuning.storage import Storage
from tuning.study.names import NAME

STUDY_FILE = "study.yaml"
ROOM = ".new-"
"""Prefix of folders of launches that are being created, or whose creation was interrupted."""
FORGOTTEN_S = 3600.0
"""A launch folder that was begun this long ago, and that nobody has locked, is abandoned."""
FIRST_FILES = {STUDY_FILE, LOCK_NAME, JOURNAL_FILE, ACKNOWLEDGED_NAME}
"""The files of a launch's folder before its first event."""
TAKEN = (errno.ENOTEMPTY, errno.EEXIST, errno.ENOTDIR)
MAX_PAUSE_S = 1.0


def is_begun(folder: Path) -> bool:
    """Whether the launch in `folder` has a first record. Anything in the journal's place, even if damaged, counts."""
    journal = folder / JOURNAL_FILE
    if not journal.is_file():
        return journal.exists()
    with journal.open("rb") as handle:
        return handle.readline().endswith(b"\n")


def launches_in(local: Path) -> list[Path]:
    """The folders of launches that have begun, sorted by name."""
    found = (file.parent for file in local.glob(f"*/{STUDY_FILE}"))
    return sorted(folder for folder in found if NAME.fullmatch(folder.name) and is_begun(folder))


@contextmanager
def room_for_launch(parent: Path) -> Iterator[Path]:
    """Yields an empty folder in `parent` that is not a launch yet; it is removed unless it was renamed within the block."""
    room = parent / f"{ROOM}{uuid.uuid4().hex}"
    room.mkdir(parents=True)
    try:
        yield room
    finally:
        shutil.rmtree(room, ignore_errors=True)


def take(room: Path, target: Path) -> bool:
    """Rename `room` to `target` -> whether that name was free."""
    try:
        room.rename(target)  # replaces an empty folder, but no other
    except OSError as error:
        if error.errno in TAKEN:
            return False
        raise
    return True


def claim(storage: Storage, name: str, study: str) -> bool:
    """Put the text of the study file into the folder `name` of `storage` -> whether this process got that name.

    Object storage has no folder that only one process can create. There, each process leaves a mark and looks for others: of two,
    at least one sees the other and tries the next name.
    """
    if storage.is_local:
        with room_for_launch(Path(storage.root)) as room:
            write_durably(room / STUDY_FILE, study)
            return take(room, Path(storage.path(name)))
    if storage.exists(name):
        return False
    mark = f".claim-{uuid.uuid4().hex}"
    storage.write_token(f"{name}/{mark}", b"claimed")
    if storage.names(name) != [mark]:
        storage.delete(f"{name}/{mark}")
        time.sleep(random.uniform(0, MAX_PAUSE_S))  # so that the two do not collide at the next name
        return False
    with storage.writing(f"{name}/{STUDY_FILE}") as path:
        path.write_text(study, encoding="utf-8")
    storage.delete(f"{name}/{mark}")
    return True


def clear_remains(folder: Path) -> None:
    """Remove the remains of a launch in `folder` that was killed before its first record; anything else stays."""
    if not _are_remains(folder):
        return
    lock = DriverLock(folder)
    if not lock.try_acquire():
        return
    try:
        if _are_remains(folder):
            for name in FIRST_FILES - {LOCK_NAME}:
                (folder / name).unlink(missing_ok=True)
            lock.path.unlink()  # last: until then, no other process considers the folder free
    finally:
        lock.release()


def _are_remains(folder: Path) -> bool:
    return folder.is_dir() and {path.name for path in folder.iterdir()} <= FIRST_FILES and not is_begun(folder)


def clear_forgotten(local: Path) -> None:
    """Remove launches in `local` whose creation was killed long ago."""
    for room in local.glob(f"{ROOM}*"):
        if room.is_dir() and time.time() - room.stat().st_mtime > FORGOTTEN_S:
            lock = DriverLock(room)
            if lock.try_acquire():
                shutil.rmtree(room, ignore_errors=True)
                lock.release()


def write_durably(path: Path, text: str) -> None:
    """Write a file so that it survives a power cut."""
    with path.open("w", encoding="utf-8") as handle:
        handle.write(text)
        handle.flush()
        os.fsync(handle.fileno())
