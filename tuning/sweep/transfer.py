"""What a search takes over from earlier launches: read from whatever store has them, and fitted to what the study searches."""

import time
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from mlflow import MlflowClient

from cpsc.errors import ConfigError
from tuning.launch import Journal
from tuning.launch.events import Transferred
from tuning.launch.journal import JOURNAL_FILE
from tuning.outcome import Outcome
from tuning.results import Launch, TrialRecord, launch_from_journal
from tuning.results.from_mlflow import load_launch
from tuning.search.transfer import DIVERGED, best_points, standardise
from tuning.storage import Storage
from tuning.study import Study
from tuning.study.config import EarlierLaunch
from tuning.study.distributions import Distribution
from tuning.study.paths import folder_path
from tuning.study.yaml_loader import load_yaml
from tuning.tracking.client import reading_store, using_mlflow

ENDED = (Outcome.COMPLETED, Outcome.PRUNED, Outcome.DIVERGED)


@dataclass(frozen=True)
class Source:
    """An earlier launch: those of its `trials` that fit the study, and why others do not, counted."""

    name: str
    trials: Sequence[tuple[TrialRecord, dict[str, Any]]]
    left_out: Mapping[str, int]
    scores: Sequence[float]

    def __str__(self) -> str:
        left_out = ", ".join(f"{count} {why}" for why, count in self.left_out.items())
        return f"transfer from {self.name}: {len(self.trials)} trials" + (f"; left out: {left_out}" if left_out else "")


def read_sources(study: Study) -> list[Source]:
    """The launches that `study` names under ``transfer``. ConfigError where one is not to be had, or has no trial that fits."""
    sources = [_fitted(_read(entry, study, f"transfer[{index}]"), study) for index, entry in enumerate(study.transfer)]
    for source in sources:
        if not source.trials:
            raise ConfigError(f"transfer: no trial fits this study; {source}")
    return sources


def transferred(sources: Sequence[Source]) -> Transferred | None:
    """What the journal records of `sources`; None where there are none."""
    if not sources:
        return None
    return Transferred(
        time=time.time(),
        points=[point for source in sources for _, point in source.trials],
        scores=[score for source in sources for score in source.scores],
        sources=[source.name for source in sources for _ in source.trials],
    )


def beginning_with(study: Study, told: Transferred | None) -> Study:
    """`study`, whose search begins with the best earlier points behind those that it lists."""
    if told is None:
        return study
    return replace(study, start=[*study.start, *(point for point in best_points(told) if point not in study.start)])


def _read(entry: str | EarlierLaunch, study: Study, where: str) -> Launch:
    if isinstance(entry, EarlierLaunch):
        return _from_mlflow(entry)
    place, _, name = entry.rstrip("/").rpartition("/")
    storage = _storage_at(place, study, where)
    if not name or not storage.exists(f"{name}/{JOURNAL_FILE}"):
        raise ConfigError(f"{where}: {entry}: is no launch, {storage} has {', '.join(_launches_in(storage)) or 'none'}")
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


def _fitted(launch: Launch, study: Study) -> Source:
    """The search's trials that ended by themselves, each at a point of the study's space."""
    fitting: list[tuple[TrialRecord, dict[str, Any]]] = []
    left_out: Counter[str] = Counter()
    for trial in sorted(launch.searched, key=lambda trial: trial.number):
        point, why = _point_of(trial, study)
        if why:
            left_out[why] += 1
        else:
            fitting.append((trial, point))
    scores = standardise([_result(trial, launch.objective) for trial, _ in fitting])
    return Source(launch.name, fitting, left_out, scores)


def _point_of(trial: TrialRecord, study: Study) -> tuple[dict[str, Any], str]:
    """`trial` as a point of the study's space, and, where it is none, why.

    A parameter that it did not search has the value that it ran with; one that the study does not search is dropped.
    """
    if trial.outcome not in ENDED or not any(trial.curves.values()):
        return {}, "not ended"
    method = study.space.get("method")
    if trial.params.get("method") not in (method.arguments if method else (study.config.method,)):
        return {}, "of another method"
    point: dict[str, Any] = {}
    for path, domain in study.space.items():
        if domain.is_active(point):
            value = _value_of(trial, path, domain)
            if not domain.contains(value):
                return {}, f"outside the range of {path}"
            point[path] = value
    return point, ""


def _value_of(trial: TrialRecord, path: str, domain: Distribution) -> Any:
    if path in trial.point:
        return trial.point[path]
    text = trial.params.get(path)
    if text is None or (domain.sampler == "choice" and text in domain.arguments):
        return text
    return load_yaml(text)


def _result(trial: TrialRecord, objective: str) -> tuple[int, float]:
    score = trial.at_best(objective, objective)
    return DIVERGED if score is None else (trial.num_epochs, score)
