"""A recorded trial, found by the run ID that MLflow's UI shows: its store, its study, its settings and its curves."""

import ast
import json
import re
import tempfile
from collections.abc import Collection, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from mlflow import MlflowClient
from mlflow.entities import Run
from mlflow.exceptions import RESOURCE_DOES_NOT_EXIST, MlflowException

from cpsc.errors import CheckpointError, ConfigError
from tuning.launch import Journal
from tuning.launch.events import LaunchStart, Transferred
from tuning.launch.folder import STUDY_FILE
from tuning.launch.journal import JOURNAL_FILE
from tuning.launch.launch import open_launch, records_copy
from tuning.lineage import Segment, Stretch
from tuning.outcome import RUNNING, Outcome
from tuning.redaction import reason, redact
from tuning.sqlite import sqlite_uri
from tuning.storage import Storage
from tuning.study import Study
from tuning.study.base_config import parameter_paths
from tuning.study.config import load_recorded_study
from tuning.study.names import NAME
from tuning.study.overrides import refuse_scale
from tuning.study.paths import folder_path
from tuning.study.tracking_uri import is_tracking_uri
from tuning.study.yaml_loader import read_mapping
from tuning.tracking.client import FAILURES, reading_store, using_mlflow
from tuning.tracking.run_lookup import all_runs, one_each
from tuning.tracking.tags import (
    FINALIST_TAG,
    KIND_TAG,
    LAUNCH_ID_TAG,
    LAUNCH_TAG,
    NUMBER_TAG,
    OUTCOME_TAG,
    PARENT_TAG,
    POINT_TAG,
    REASON_TAG,
    RETRIES_METRIC,
)
from tuning.trial.environment import ENVIRONMENT_TAG, from_tag

RUN_ID = re.compile(r"[A-Za-z0-9][A-Za-z0-9_-]{0,99}")
BY_NUMBER = re.compile(rf"(?P<launch>{NAME.pattern}):(?P<number>[0-9]{{1,9}})")
RESUMED = "resumed."
"""Prefix of the tag for a parameter that a resume changed: MLflow parameters cannot be overwritten."""
NAMED_TRIALS = 3
RUN_ABSENT = "RESOURCE_DOES_NOT_EXIST"
"""MLflow's error code for a run that does not exist."""


@dataclass(frozen=True, kw_only=True)
class RecordedTrial:
    """One trial's run. `settings`: values of `DistillConfig` by dotted path; `facts`: the other parameters, as texts;
    `curves`: by metric, the value at each epoch; `environment`: where it ran, None if not recorded."""

    client: MlflowClient
    run_id: str
    parent_id: str
    study_name: str
    launch: str
    launch_id: str
    number: int
    outcome: Outcome | None
    reason: str
    point: Mapping[str, Any]
    settings: Mapping[str, Any]
    facts: Mapping[str, str]
    curves: Mapping[str, Mapping[int, float]]
    environment: Mapping[str, str] | None
    is_finalist: bool
    lineage: Sequence[Stretch] = ()
    """For a trial of a population, the trials and epochs that its state comes from, see `tuning.results.ancestry`."""
    schedule: Sequence[Segment] = ()
    """The values along the lineage; `point` and `settings` are those that the trial itself began with."""

    @property
    def last_epoch(self) -> int:
        """The last recorded epoch, 0 if there is none; for a diverged trial, the epoch in which it diverged."""
        return max((max(curve) for curve in self.curves.values() if curve), default=0)

    @property
    def best_epoch(self) -> int | None:
        """The epoch whose student is the trial's result, as the trial itself last reported."""
        curve = self.curves.get("best_epoch", {})
        return int(curve[max(curve)]) if curve else None

    def at(self, epoch: int) -> dict[str, float]:
        """All metrics recorded at `epoch`."""
        return {name: curve[epoch] for name, curve in self.curves.items() if epoch in curve}

    def knowing(self, paths: Collection[str]) -> "RecordedTrial":
        """The trial with facts that are in `paths`, such as parameters of its method, moved to its settings."""
        brought = {path: _value(text) for path, text in self.facts.items() if path in paths}
        facts = {path: text for path, text in self.facts.items() if path not in brought}
        return replace(self, settings={**self.settings, **brought}, facts=facts)

    def __str__(self) -> str:
        ended = self.outcome.value if self.outcome else RUNNING
        epochs = f"{self.last_epoch} epoch{'' if self.last_epoch == 1 else 's'}"
        return f"trial {self.number} of launch {self.launch} ({ended}, {epochs})"


def stores_of(storage: str, tracking: str | None = None) -> list[str]:
    """The MLflow stores to look in: `tracking` if given, else those that the launches under `storage` write to.

    `storage`: a folder with launches' records, or the URI of studies' storage. ConfigError if it leads to no store.
    """
    if tracking is not None:
        return [_checked_uri(tracking)]
    return _stores(storage)


@using_mlflow()
def find_trial(run_id: str, stores: Sequence[str]) -> RecordedTrial:
    """The trial whose run is `run_id`, or that ``LAUNCH:NUMBER`` names, in the first of `stores` that has it.

    ConfigError if there is no such run, if it was deleted, or if it is not a trial's.
    """
    if not RUN_ID.fullmatch(run_id) and not BY_NUMBER.fullmatch(run_id):
        raise ConfigError(
            f"run {run_id!r}: is not a run ID; copy the one that MLflow's UI shows on the run's page, or give LAUNCH:NUMBER"
        )
    failures = []
    for uri in stores:
        try:
            client = MlflowClient(tracking_uri=uri)  # connects at once if it is a database
            run = _get_run(client, run_id)
        except (*FAILURES, ImportError) as error:
            is_absent = getattr(error, "error_code", "") == RUN_ABSENT
            failures.append(redact(uri) if is_absent else f"{redact(uri)}, which cannot be read ({reason(error)})")
            continue
        with reading_store(uri):
            return read_trial(client, run)
    raise ConfigError(
        f"run {run_id}: is not in {' nor in '.join(failures)}; copy the run ID that MLflow's UI shows, or name another store"
    )


def _get_run(client: MlflowClient, run_id: str) -> Run:
    """The run with that ID, or of trial NUMBER in the latest launch named LAUNCH; MlflowException if there is none."""
    named = BY_NUMBER.fullmatch(run_id)
    if named is None:
        return client.get_run(run_id)
    experiments = [experiment.experiment_id for experiment in client.search_experiments()]
    query = (
        f"tags.{KIND_TAG} = 'trial' AND tags.`{LAUNCH_TAG}` = '{named['launch']}' AND tags.{NUMBER_TAG} = '{int(named['number'])}'"
    )
    found = one_each(all_runs(client, experiments, query, order_by=["attributes.start_time DESC"]))
    if not found:
        raise MlflowException(f"no trial {run_id}", RESOURCE_DOES_NOT_EXIST)
    return found[0]


def read_trial(client: MlflowClient, run: Run) -> RecordedTrial:
    """Read the trial of `run` from MLflow. ConfigError if the run is not a trial's, or was deleted."""
    run_id, tags = run.info.run_id, run.data.tags
    if run.info.lifecycle_stage == "deleted":
        raise ConfigError(f"run {run_id}: was deleted in MLflow; restore it with: mlflow runs restore --run-id {run_id}")
    if tags.get(KIND_TAG) == "launch":
        raise ConfigError(f"run {run_id}: is the launch {tags.get(LAUNCH_TAG)}, not a trial; {_trials_of(client, run)}")
    if tags.get(KIND_TAG) != "trial":
        raise ConfigError(f"run {run_id}: is not a trial of a sweep, because it has no tag {KIND_TAG}; give a trial's run ID")
    try:
        outcome = tags[OUTCOME_TAG]
        params = run.data.params | {key.removeprefix(RESUMED): text for key, text in tags.items() if key.startswith(RESUMED)}
        paths = parameter_paths()
        return RecordedTrial(
            client=client,
            run_id=run_id,
            parent_id=tags[PARENT_TAG],
            study_name=client.get_experiment(run.info.experiment_id).name,
            launch=tags[LAUNCH_TAG],
            launch_id=tags[LAUNCH_ID_TAG],
            number=int(tags[NUMBER_TAG]),
            outcome=None if outcome == RUNNING else Outcome(outcome),
            reason=redact(tags.get(REASON_TAG, "")),
            point=json.loads(tags[POINT_TAG]),
            settings={path: _value(text) for path, text in params.items() if path in paths},
            facts={path: text for path, text in params.items() if path not in paths},
            curves={name: _curve(client, run_id, name) for name in run.data.metrics if name != RETRIES_METRIC},
            environment=from_tag(tags.get(ENVIRONMENT_TAG)),
            is_finalist=FINALIST_TAG in tags,
        )
    except (KeyError, ValueError) as error:
        raise ConfigError(f"run {run_id}: its tags are not those of a trial ({error}); were they edited?") from error


def study_of(trial: RecordedTrial, storage: str, overrides: list[str]) -> Study:
    """The trial's study: from its launch's file under `storage`, else from the copy logged with the launch's run."""
    refuse_scale(overrides)
    if "://" not in storage:
        folder = folder_path(storage, "--storage")
        if (folder / trial.launch / STUDY_FILE).is_file() and _launch_id(folder / trial.launch) == trial.launch_id:
            return open_launch(storage, trial.launch, overrides)
        location = []
    else:
        location = [f"storage={storage}"]
    with tempfile.TemporaryDirectory(prefix="cpsc-") as folder_name:
        try:
            file = trial.client.download_artifacts(trial.parent_id, STUDY_FILE, folder_name)
        except FAILURES as error:
            raise ConfigError(
                f"run {trial.run_id}: the study of launch {trial.launch} is neither under {redact(storage)} nor with the "
                f"launch's run ({reason(error)}); name the folder that has it with --storage"
            ) from error
        return load_recorded_study(Path(file), [*location, *overrides])


def _stores(storage: str) -> list[str]:
    """The stores of the launches under `storage`: the SQLite file beside them, and the servers that their studies name."""
    if "://" in storage:
        found = Storage(storage)
        names = [name for name in found.names() if found.exists(f"{name}/{STUDY_FILE}")]
        stores = []
        for name in names:
            with found.reading(found.path(f"{name}/{STUDY_FILE}")) as file:
                stores += _named_store(file)
        hint = "no launch there names one"
    else:
        folder = folder_path(storage, "--storage")
        database = folder / "mlflow.db"
        stores = [sqlite_uri(database)] if database.exists() else []
        for file in sorted(folder.glob(f"*/{STUDY_FILE}")):
            stores += _named_store(file)
        hint = "no mlflow.db and no launch that names one"
    if not stores:
        raise ConfigError(f"--storage: {redact(storage)} leads to no MLflow store ({hint}); name the store with --tracking")
    return list(dict.fromkeys(stores))


def _named_store(file: Path) -> list[str]:
    """The tracking server that a launch's study names, if any."""
    try:
        section = read_mapping(file, keys="name, config and space").get("tracking")
    except ConfigError:
        return []  # a broken file of another launch must not hide this run
    uri = section.get("uri") if isinstance(section, dict) else None
    return [uri] if isinstance(uri, str) and is_tracking_uri(uri) else []


def _checked_uri(uri: str) -> str:
    if not is_tracking_uri(uri):
        raise ConfigError(
            f"--tracking: must be an MLflow server, e.g. http://127.0.0.1:5000, or a database's URI, got {redact(uri)!r}"
        )
    return uri


def taken_over(trial: RecordedTrial, study: Study) -> Transferred | None:
    """What the trial's launch took over from earlier ones, read from its journal in `study.local` or the copy in the storage.

    None if nothing, or if the journal is in neither place.
    """
    if not study.transfer:
        return None
    for place in filter(None, (Storage(str(study.local)), records_copy(study))):
        with suppress(CheckpointError), place.reading(place.path(f"{trial.launch}/{JOURNAL_FILE}")) as file:
            if _launch_id(file.parent) == trial.launch_id:
                return next((event for event in Journal(file.parent).events() if isinstance(event, Transferred)), None)
    return None


def _launch_id(folder: Path) -> str:
    """ID of the launch in `folder`, which may be another launch with the same name as the trial's."""
    try:
        first = next(Journal(folder).events(), None)
    except ConfigError:
        return ""
    return first.launch_id if isinstance(first, LaunchStart) else ""


def _trials_of(client: MlflowClient, run: Run) -> str:
    query = f"tags.{KIND_TAG} = 'trial' AND tags.`{PARENT_TAG}` = '{run.info.run_id}'"
    trials = client.search_runs([run.info.experiment_id], query, max_results=NAMED_TRIALS, order_by=["attributes.start_time"])
    named = ", ".join(f"{trial.data.tags.get(NUMBER_TAG)}: {trial.info.run_id}" for trial in trials)
    return f"its first trials are {named}" if named else "it has no trials"


def _curve(client: MlflowClient, run_id: str, name: str) -> dict[int, float]:
    return {point.step: point.value for point in client.get_metric_history(run_id, name)}


def _value(text: str) -> Any:
    """Parse a plain value that was written with ``str``."""
    try:
        return ast.literal_eval(text)
    except (ValueError, SyntaxError):
        return text
