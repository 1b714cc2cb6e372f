"""A launch on disk: one folder with the study file, the journal and one folder per attempt."""

import itertools
import shlex
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from pathlib import Path

from cpsc.atomic_file import atomic_path
from cpsc.errors import ConfigError
from tuning.file_lock import LockError
from tuning.launch.events import Event, LaunchStart, Transferred
from tuning.launch.folder import STUDY_FILE, claim, clear_remains, is_begun, launches_in, room_for_launch, take, write_durably
from tuning.launch.history import LaunchHistory
from tuning.launch.journal import JOURNAL_FILE, WAY_OUT, DriverLock, Journal
from tuning.redaction import redact
from tuning.storage import Storage
from tuning.study import Study
from tuning.study.config import load_recorded_study
from tuning.study.distributions import Distribution
from tuning.study.finalists import searched_part
from tuning.study.names import NAME, check_fits
from tuning.study.near_misses import hint
from tuning.study.overrides import refuse_scale
from tuning.study.paths import folder_path
from tuning.study.user_code import look_in
from tuning.study.validation import format_value
from tuning.study.yaml_loader import dump_yaml, to_plain


def records_copy(study: Study) -> Storage | None:
    """The storage, if it is not the folder that the records are written to, else None."""
    storage = Storage(study.storage)
    return None if storage.root == str(study.local) and storage.is_local else storage


@contextmanager
def new_launch(study: Study, start: LaunchStart, transferred: Transferred | None = None) -> Iterator[str]:
    """Begin a launch with its first events -> its name: the study's, plus a number if that is taken.

    During the block, its folder is visible to others as a launch that this process drives. If two begin at the same time, one takes
    the next number. ConfigError if the folder cannot be written.
    """
    with ExitStack() as stack:
        try:
            room = stack.enter_context(room_for_launch(study.local))
            stack.enter_context(DriverLock(room))
            name = _take_name(study, room, _furnish(study, room, [start, *([transferred] if transferred else [])]))
        except LockError:
            raise
        except OSError as error:
            raise ConfigError(f"storage: {study.local} cannot be written ({error.strerror})") from error
        yield name


def _furnish(study: Study, room: Path, first: Sequence[Event]) -> str:
    """Write the launch's first files -> the text of its study without secrets."""
    text = dump_yaml(to_plain(study.source))
    file = room / STUDY_FILE
    file.touch(mode=0o600)  # a URI in it may carry a password, which a resume needs
    write_durably(file, text)
    journal = Journal(room)
    for event in first:
        journal.append(event)
    journal.sync()
    return redact(text)


def _take_name(study: Study, room: Path, text: str) -> str:
    """Rename `room` to the first name that is free here and in the storage, to which the study's `text` is written."""
    copy = records_copy(study)
    for number in itertools.count(1):
        name = study.name if number == 1 else f"{study.name}-{number}"
        if copy is not None and (is_begun(study.local / name) or not claim(copy, name, text)):
            continue
        clear_remains(study.local / name)
        if take(room, study.local / name):
            return name
        if copy is not None:
            copy.delete_folder(name)  # another process took the name here in between
    raise AssertionError("numbers do not end")


def open_launch(storage: str, name: str, overrides: list[str]) -> Study:
    """The study of an existing launch, with `overrides`. ConfigError, with the existing names, if there is no such launch.

    `storage`: the folder with its records, or the URI of the study's storage. From a URI they are fetched into the study's local
    folder if they are missing or outdated there, as on a new driver machine.
    """
    refuse_scale(overrides)
    if not NAME.fullmatch(name):
        raise ConfigError(f"launch {name!r}: is not a launch's name, use letters, digits, '_', '.' and '-' only")
    if "://" in storage:
        return _fetch_launch(Storage(storage), name, overrides)
    folder = folder_path(storage, "--storage")
    file = folder / name / STUDY_FILE
    if not file.is_file():
        known = [found.name for found in launches_in(folder)]
        raise ConfigError(f"launch {name!r}: not found in {folder}{_instead(name, known)}")
    check_fits(folder, name)
    if not is_begun(file.parent):
        raise ConfigError(f"launch {name!r}: has no record in {folder}, so it never began; run its study again")
    look_in(recorded_code_folders(Journal(file.parent).events()))
    study = load_recorded_study(file, overrides)
    has_one_root = study.storage == str(study.local)  # which may have been moved, or be relative to another folder
    return replace(study, local=folder, storage=str(folder) if has_one_root else study.storage)


def _fetch_launch(storage: Storage, name: str, overrides: list[str]) -> Study:
    if not _is_recorded(storage, name):
        known = [found for found in storage.names() if _is_recorded(storage, found)]
        raise ConfigError(f"launch {name!r}: not found in {storage}{_instead(name, known)}")
    with ExitStack() as stack:
        journal = stack.enter_context(storage.reading(storage.path(f"{name}/{JOURNAL_FILE}")))
        copy = stack.enter_context(storage.reading(storage.path(f"{name}/{STUDY_FILE}")))
        look_in(recorded_code_folders(Journal(journal.parent).events()))
        local = load_recorded_study(copy, overrides).local
        folder = local / name
        folder.mkdir(parents=True, exist_ok=True)
        file = folder / STUDY_FILE
        if not file.is_file() or not file.stat().st_size:  # a fetch was killed
            fetched = folder / f".{STUDY_FILE}"
            fetched.touch(mode=0o600)
            write_durably(fetched, copy.read_text(encoding="utf-8"))
            fetched.replace(file)
        _take_if_longer(journal, folder / JOURNAL_FILE)
    # The copy of the study file has no passwords: the storage is the one that was given, and others must be given by --set.
    return replace(load_recorded_study(file, [f"storage={storage.location}", *overrides]), local=local)


def _instead(name: str, known: Sequence[str]) -> str:
    """A suggestion for the unknown `name`, and the launches that exist."""
    guess = hint(name, known)
    return f"{guess or ','} launches there: {', '.join(known) or 'none'}"


def _is_recorded(storage: Storage, name: str) -> bool:
    """Whether `storage` holds a launch that has begun: the study file comes with the claim of the name, the journal soon after."""
    return all(storage.exists(f"{name}/{file}") for file in (STUDY_FILE, JOURNAL_FILE))


def _take_if_longer(copy: Path, path: Path) -> None:
    """Replace the journal at `path` by `copy` if it is shorter or missing, as on a new machine."""
    if copy.stat().st_size > (path.stat().st_size if path.exists() else 0):
        with atomic_path(path) as fetched:
            fetched.write_bytes(copy.read_bytes())


def resume_command(study: Study, name: str) -> str:
    """The command that resumes the launch `name`."""
    return shlex.join(["cpsc-tune", "resume", name, "--storage", str(study.local)])


def recorded_code_folders(events: Iterable[Event]) -> Sequence[str]:
    """The folders where the driver that began a launch looked for the teacher's factory and for methods."""
    return next((event.code_folders for event in events if isinstance(event, LaunchStart)), ())


def check_resumable(history: LaunchHistory, space: Mapping[str, Distribution]) -> None:
    """Raise ConfigError unless a launch with this history can be resumed: it has begun, and its points are points of `space`."""
    if not history.launch_id and (history.trials or history.num_attempts):
        raise ConfigError(f"{JOURNAL_FILE} line 1: launch_start is missing; {WAY_OUT}")
    if not history.launch_id:
        raise ConfigError(f"{JOURNAL_FILE}: has no launch_start, so this launch never began; run its study again")
    for trial in history.trials.values():
        where = f"{JOURNAL_FILE}: trial {trial.number}"
        point = trial.point if trial.finalist_of is None else searched_part(trial.point)
        expected = {path for path, domain in space.items() if domain.is_active(point)}
        if point.keys() != expected:
            odd = min(point.keys() ^ expected)
            raise ConfigError(
                f"{where}: {odd} is searched either there or in the study, but not in both; keep space as it was at the start"
            )
        for path, value in point.items():
            if not space[path].contains(value):
                raise ConfigError(
                    f"{where}: {path} {format_value(value)} lies outside {space[path]}; keep space as it was at the start"
                )
