"""Reads the earlier launches that a study names under ``transfer``, from the stores that hold them."""

from mlflow import MlflowClient

from cpsc.errors import ConfigError
from tuning.launch import Journal
from tuning.launch.journal import JOURNAL_FILE
from tuning.results import Launch, launch_from_journal
from tuning.results.earlier import Source, fitted
from tuning.results.from_mlflow import load_launch
from tuning.storage import Storage
from tuning.study import Study
from tuning.study.config import EarlierLaunch
from tuning.study.paths import folder_path
from tuning.tracking.client import reading_store, using_mlflow


def read_sources(study: Study) -> list[Source]:
    """The launches that `study` names under ``transfer``. ConfigError if one cannot be read, or has no trial that fits."""
    sources = [fitted(_read(entry, study, f"transfer[{index}]"), study) for index, entry in enumerate(study.transfer)]
    for source in sources:
        if not source.trials:
            raise ConfigError(f"transfer: no trial fits this study; {source}")
    return sources


def _read(entry: str | EarlierLaunch, study: Study, where: str) -> Launch:
    if isinstance(entry, EarlierLaunch):
        return _from_mlflow(entry)
    place, _, name = entry.rstrip("/").rpartition("/")
    storage = _storage_at(place, study, where)
    if not name or not storage.exists(f"{name}/{JOURNAL_FILE}"):
        raise ConfigError(f"{where}: {entry}: is not a launch, {storage} has {', '.join(_launches_in(storage)) or 'none'}")
    with storage.reading(storage.path(f"{name}/{JOURNAL_FILE}")) as file:
        return launch_from_journal(Journal(file.parent).events(), name)


def _storage_at(place: str, study: Study, where: str) -> Storage:
    if not place:
        return Storage(str(study.local))
    return Storage(place if "://" in place else str(folder_path(place, where)))


def _launches_in(storage: Storage) -> list[str]:
    return [name for name in storage.names() if storage.exists(f"{name}/{JOURNAL_FILE}")]


@using_mlflow()
def _from_mlflow(entry: EarlierLaunch) -> Launch:
    with reading_store(entry.tracking):
        return load_launch(MlflowClient(tracking_uri=entry.tracking), entry.study, entry.launch)
