"""Names given by users: of a study, by file or name, or of a launch, by name or folder. Verbs accept either."""

from contextlib import suppress
from pathlib import Path

from cpsc.errors import ConfigError
from tuning.launch.events import LaunchStart
from tuning.launch.folder import STUDY_FILE, is_begun, launches_in
from tuning.launch.journal import Journal
from tuning.launch.launch import open_launch
from tuning.study import Study
from tuning.study.config import load_study as load_study_file
from tuning.study.names import NAME
from tuning.study.packaged_studies import find_study, nearest, packaged_files
from tuning.study.paths import folder_path
from tuning.study.user_code import look_in
from tuning.study.yaml_loader import load_yaml

RUNS = "runs"
"""The default folder for launches, where launch names are looked up."""


def study_file(named: Path) -> Path:
    """The study file that `named` means: a study file, a packaged study by name, or the study that a launch has kept.

    A launch is given by its folder, or by its name if it is in `RUNS`. ConfigError if the name is unknown or ambiguous. A path to a
    file is returned as it is, whether it exists or not.
    """
    if _is_launch(named):
        return named.absolute() / STUDY_FILE
    by_name = Path(RUNS) / named
    if _is_folder(named) and str(named) not in packaged_files() and not _is_launch(by_name):
        raise ConfigError(f"{named}: is a folder, but not that of a launch{_launches_there(named)}")
    if str(named) != named.name or _is_file(named) or not _is_launch(by_name):
        return _file_or_packaged(named)
    if str(named) in packaged_files():
        raise ConfigError(f"{named}: is both a packaged study and a launch; write {by_name} to mean the launch")
    return by_name.absolute() / STUDY_FILE


def launch_of(file: Path) -> str | None:
    """The name of the launch whose study file is `file`; None if it is not a launch's."""
    return file.parent.name if file.name == STUDY_FILE and _is_launch(file.parent) else None


def load_study(file: Path, overrides: list[str] | None = None) -> Study:
    """The study in `file`, as found by `study_file`, with `overrides`; for a launch, as recorded, with the launch's folder."""
    name = launch_of(file)
    if name is None:
        return load_study_file(file, overrides)
    return open_launch(str(file.parent.parent.absolute()), name, overrides or [])


def find_launch(named: str, storage: str = RUNS) -> tuple[str, str]:
    """(storage, name) of the launch that `named` means: a launch's name in `storage`, its folder or URI, or a study.

    A study means its latest launch, in `storage` or, by default, in the study's own folder. ConfigError if it has none. Whether a
    launch name exists is checked when the launch is opened.
    """
    if "://" in named:
        location, question, query = named.partition("?")
        folder, _, name = location.rstrip("/").rpartition("/")
        return f"{folder}{question}{query}", name
    is_name = NAME.fullmatch(named) is not None
    if "://" in storage or (is_name and (folder_path(storage, "--storage") / named / STUDY_FILE).is_file()):
        return storage, named
    if is_name and not _is_launch(Path(named)) and not _is_file(Path(named)) and named not in packaged_files():
        return storage, named
    file = study_file(Path(named))
    if (launch := launch_of(file)) is not None:
        return str(file.absolute().parent.parent), launch
    look_in([file.parent])
    study = load_study_file(file)
    runs = study.local if storage == RUNS else folder_path(storage, "--storage")
    latest = latest_launch(study, runs)
    if latest is None:
        raise ConfigError(f"{named}: study {study.name} has no launch in {runs}; start one with: cpsc-tune sweep {named}")
    return str(runs), latest.name


def find_trial_of_launch(named: str, storage: str = RUNS) -> tuple[str, str]:
    """(storage, trial) for ``LAUNCH:NUMBER``, with a launch as in `find_launch`; a run id is returned as it is."""
    launch, colon, number = named.rpartition(":")
    if not (launch and number.isdecimal()):
        return storage, named
    storage, name = find_launch(launch, storage)
    return storage, f"{name}{colon}{number}"


def latest_launch(study: Study, folder: Path) -> Path | None:
    """The launch of `study` in `folder` that was begun last; None if there is none."""
    begun = [(start.time, launch) for launch in launches_in(folder) if (start := _start_of(launch, study)) is not None]
    return max(begun)[1] if begun else None


def _start_of(folder: Path, study: Study) -> LaunchStart | None:
    """The first event of the launch in `folder`; None if it belongs to another study, or cannot be read."""
    if not folder.name.startswith(study.name):
        return None
    try:
        start = next(Journal(folder).events(), None)
        name = load_yaml(start.study)["name"] if isinstance(start, LaunchStart) else None
    except (ConfigError, KeyError, TypeError):
        return None
    return start if isinstance(start, LaunchStart) and name == study.name else None


def _file_or_packaged(named: Path) -> Path:
    try:
        return find_study(named)
    except ConfigError as error:
        guess = nearest(str(named), [*packaged_files(), *(launch.name for launch in launches_in(Path(RUNS)))])
        raise ConfigError(
            f"{named}: neither a file, nor a packaged study, nor a launch in {Path(RUNS).absolute()}, "
            f"{f'did you mean {guess}? ' if guess else ''}list them with: cpsc-tune studies, cpsc-tune list"
        ) from error


def _is_launch(folder: Path) -> bool:
    """Whether `folder` is that of a launch that has begun."""
    try:
        return NAME.fullmatch(folder.absolute().name) is not None and (folder / STUDY_FILE).is_file() and is_begun(folder)
    except OSError:  # a name that is too long, a folder without permission
        return False


def _is_folder(path: Path) -> bool:
    with suppress(OSError):
        return path.is_dir()
    return False


def _is_file(path: Path) -> bool:
    with suppress(OSError):
        return path.exists() and not path.is_dir()
    return False


def _launches_there(folder: Path) -> str:
    found = [launch.name for launch in launches_in(folder)]
    return f"; name one of the launches in it: {', '.join(found)}" if found else ": it lacks study.yaml or a journal with a record"
