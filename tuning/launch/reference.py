"""What a person names: a study, by its file or its name, or a launch, by its name or its folder. Either stands for both."""

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
"""Where a study's launches lie unless it says otherwise, and so where a launch's name is looked for."""


def study_file(named: Path) -> Path:
    """The file of the study that `named` means: a study file, a packaged study by its name, or what a launch has kept of its own.

    The last by the launch's folder, or by its name where it lies in `RUNS`. ConfigError where it means nothing, or two things. What
    is written as a path of a file stays that path, there or not.
    """
    if _is_launch(named):
        return named.absolute() / STUDY_FILE
    by_name = Path(RUNS) / named
    if _is_folder(named) and str(named) not in packaged_files() and not _is_launch(by_name):
        raise ConfigError(f"{named}: is a folder, and no launch's{_launches_there(named)}")
    if str(named) != named.name or _is_file(named) or not _is_launch(by_name):
        return _file_or_packaged(named)
    if str(named) in packaged_files():
        raise ConfigError(f"{named}: is a packaged study, and a launch, too; write {by_name} if the launch is meant")
    return by_name.absolute() / STUDY_FILE


def launch_of(file: Path) -> str | None:
    """The name of the launch that has kept `file` as its study; None where it is no launch's."""
    return file.parent.name if file.name == STUDY_FILE and _is_launch(file.parent) else None


def load_study(file: Path, overrides: list[str] | None = None) -> Study:
    """The study in `file`, as `study_file` found it, with `overrides`; a launch's as it was recorded, and where the launch lies."""
    name = launch_of(file)
    if name is None:
        return load_study_file(file, overrides)
    return open_launch(str(file.parent.parent.absolute()), name, overrides or [])


def find_launch(named: str, storage: str = RUNS) -> tuple[str, str]:
    """The storage and the name of the launch that `named` means: a launch's name in `storage`, its folder or URI, or a study.

    A study stands for its latest launch, in `storage` or, by default, where the study has them. ConfigError where it has none; of
    what may be a launch's name whoever opens it says whether it is there.
    """
    if "://" in named:
        location, question, query = named.partition("?")
        folder, _, name = location.rstrip("/").rpartition("/")
        return f"{folder}{question}{query}", name
    if "://" in storage or (folder_path(storage, "--storage") / named / STUDY_FILE).is_file():
        return storage, named
    if NAME.fullmatch(named) and not _is_launch(Path(named)) and not _is_file(Path(named)) and named not in packaged_files():
        return storage, named
    file = study_file(Path(named))
    if (launch := launch_of(file)) is not None:
        return str(file.absolute().parent.parent), launch
    look_in([file.parent])
    study = load_study_file(file)
    runs = study.local if storage == RUNS else folder_path(storage, "--storage")
    latest = latest_launch(study, runs)
    if latest is None:
        raise ConfigError(f"{named}: study {study.name} has no launch in {runs}; begin one with: cpsc-tune sweep {named}")
    return str(runs), latest.name


def find_trial_of_launch(named: str, storage: str = RUNS) -> tuple[str, str]:
    """Storage and trial that ``LAUNCH:NUMBER`` means, whose launch is named as for `find_launch`; a run's id stays what it is."""
    launch, colon, number = named.rpartition(":")
    if not (launch and number.isdecimal()):
        return storage, named
    storage, name = find_launch(launch, storage)
    return storage, f"{name}{colon}{number}"


def latest_launch(study: Study, folder: Path) -> Path | None:
    """Of the launches of `study` in `folder` the one that was begun last; None where there is none."""
    begun = [(start.time, launch) for launch in launches_in(folder) if (start := _start_of(launch, study)) is not None]
    return max(begun)[1] if begun else None


def _start_of(folder: Path, study: Study) -> LaunchStart | None:
    """What the launch in `folder` begins with; None where it is another study's, or nobody can tell."""
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
    """Whether `folder` is one in which a launch was begun."""
    try:
        return NAME.fullmatch(folder.absolute().name) is not None and (folder / STUDY_FILE).is_file() and is_begun(folder)
    except OSError:  # a name too long, a folder that must not be entered
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
    return f"; name one of those in it: {', '.join(found)}" if found else ": it lacks study.yaml, or a journal with a first record"
