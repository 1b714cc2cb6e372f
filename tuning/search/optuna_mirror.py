"""The launch's Optuna study in a SQLite file, which `optuna-dashboard` and `optuna.visualization` can read at any time.

The search keeps its study in memory and never reads the file; the file follows the journal, as MLflow does.

Every Optuna tool can open SQLite by its address. Optuna's journal file is written in half the time, but it has no address, a line
that a dying process left unfinished makes the next write fail, and its lock then blocks everyone for 30 s.
"""

import contextlib
import copy
import logging
import sqlite3
from collections.abc import Iterator, Mapping
from datetime import datetime
from pathlib import Path
from typing import Any

import optuna
import sqlalchemy
from optuna.distributions import BaseDistribution
from optuna.storages import RDBStorage
from optuna.trial import FrozenTrial, TrialState, create_trial

from tuning.launch import Journal
from tuning.launch.events import Epoch, Event, Proposed, TrialEnd, TrialStart
from tuning.launch.follower import JournalFollower, following
from tuning.process_settings import log_levels
from tuning.search.optuna_states import STATES
from tuning.sqlite import sqlite_uri
from tuning.study.finalists import searched_part

logger = logging.getLogger(__name__)

MIRROR_FILE = "optuna.db"
METRIC_ATTR, OUTCOME_ATTR, FINALIST_ATTR = "metric", "outcome", "finalist_of"
METRIC_NAMES_ATTR = "study:metric_names"
"""Attribute with the metric's name for dashboards; Optuna's own `set_metric_names` warns that it is experimental."""
UNDER_WAY = "running"
"""Outcome attribute of a trial without an outcome."""
BUSY_S = 5.0
"""How long to wait while another process writes."""
COMPANIONS = ("-journal", "-wal", "-shm")
"""SQLite's files next to a database: what a dying process left in them is replayed when the database is opened."""


class StudyMirror(JournalFollower["_StudyFile"]):
    """Keeps ``optuna.db``, next to the journal, up to date with it.

    A file that an earlier attempt left is continued: its content is not written twice, and its ended trials stay as they are. A
    file that is damaged or contradicts the journal is rewritten.
    """

    def __init__(self, journal: Journal, *, study_name: str, space: Mapping[str, BaseDistribution], metric: str) -> None:
        super().__init__(journal, journal.path.with_name(MIRROR_FILE), name="study-mirror")
        self._study_name = study_name
        self._space = dict(space)
        self._metric = metric
        self._trials: dict[int, FrozenTrial] = {}
        self._changed: set[int] = set()

    def _write(self, target: "_StudyFile") -> None:
        for number in sorted(self._changed):  # Optuna numbers trials in the order in which they are added
            target.write(self._trials[number])
        self._changed.clear()

    def _apply(self, event: Event) -> None:
        match event:
            case Proposed(number=number):
                self._trials[number] = self._proposed(event)
            case TrialStart(number=number):
                self._trials[number].set_user_attr(OUTCOME_ATTR, UNDER_WAY)
            case Epoch(number=number, epoch=epoch, metrics=metrics):
                self._trials[number].intermediate_values[epoch] = metrics[self._metric]
            case TrialEnd(number=number):
                _end(self._trials[number], event)
            case _:
                return
        self._changed.add(number)

    def _proposed(self, event: Proposed) -> FrozenTrial:
        """The trial of a proposal. It is RUNNING from the start, since Optuna would run a WAITING trial itself."""
        attrs: dict[str, Any] = {OUTCOME_ATTR: UNDER_WAY}
        point = dict(event.point)
        if event.finalist_of is not None:
            attrs |= {FINALIST_ATTR: event.finalist_of} | {path: point[path] for path in point if path not in self._space}
            point = searched_part(point)
        known = {path: self._space[path] for path in point}
        trial = create_trial(state=TrialState.RUNNING, params=point, distributions=known, user_attrs=attrs)
        trial.number = event.number
        trial.datetime_start = _local_time(event)
        return trial

    def _open(self) -> "_StudyFile":
        existed = self.path.exists()
        if existed and _is_sound(self.path) and (file := self._opened()) is not None:
            if all(self._agrees(trial) for trial in file.trials.values()):
                return file
            file.close()
        self._make()
        if existed:
            logger.warning("%s was damaged or not this launch's, it was rewritten from the journal", self.path)
        return self._study_file(self.path)

    def _opened(self) -> "_StudyFile | None":
        """The existing file; None if it is not a study, for example because its tables are incomplete. Raises if it is locked."""
        try:
            return self._study_file(self.path)
        except Exception as error:  # Optuna fails in many ways on files that it did not create
            if isinstance(error.__cause__ or error, sqlalchemy.exc.OperationalError) and "locked" in str(error.__cause__ or error):
                raise
            return None

    def _make(self) -> None:
        """Write the file elsewhere and move it here: another process that opens a file without tables would create them, too."""
        new = self.path.with_name(f"{MIRROR_FILE}.new")
        _remove(new)
        with contextlib.closing(self._study_file(new)) as file:
            for number in sorted(self._trials):
                file.write(self._trials[number])
        _remove(self.path)
        new.rename(self.path)

    def _study_file(self, path: Path) -> "_StudyFile":
        return _StudyFile(path, self._study_name, self._metric)

    def _agrees(self, there: FrozenTrial) -> bool:
        """Whether a trial in the file matches the journal's, in its current or an earlier state."""
        trial = self._trials.get(there.number)
        return (
            trial is not None
            and there.params == trial.params
            and there.state in (TrialState.RUNNING, trial.state)
            and there.intermediate_values.items() <= trial.intermediate_values.items()
        )


class _StudyFile:
    """A study in a SQLite file; both are created if missing. `trials`: the trials in the file, by number.

    It uses Optuna's storage interface, not `Study`: there a running trial with its parameters and times is one transaction, which
    a killed process completes or not at all, and no sampler is involved.
    """

    def __init__(self, path: Path, study_name: str, metric: str) -> None:
        self._storage = RDBStorage(sqlite_uri(path), engine_kwargs={"connect_args": {"timeout": BUSY_S}})
        sqlalchemy.event.listen(self._storage.engine, "connect", _without_waiting_for_the_disk)
        self._storage.engine.dispose()  # close connections from before the listener
        study = optuna.create_study(storage=self._storage, study_name=study_name, direction="maximize", load_if_exists=True)
        study.set_user_attr(METRIC_ATTR, metric)
        self._study_id = self._storage.get_study_id_from_name(study_name)
        self._storage.set_study_system_attr(self._study_id, METRIC_NAMES_ATTR, [metric])
        self.trials = {trial.number: trial for trial in self._storage.get_all_trials(self._study_id, deepcopy=False)}

    def write(self, trial: FrozenTrial) -> None:
        """Update the file to `trial`, unless the trial has ended in the file."""
        there = self.trials.get(trial.number)
        if there is None:
            self._add(trial)
        elif not there.state.is_finished():
            self._update(there, trial)

    def close(self) -> None:
        """Close the file."""
        self._storage.remove_session()
        self._storage.engine.dispose()

    def _add(self, trial: FrozenTrial) -> None:
        if trial.number != len(self.trials):
            raise ValueError(f"trial {trial.number} cannot follow {len(self.trials)} trials")
        trial_id = self._storage.create_new_trial(self._study_id, template_trial=trial)
        number = self._storage.get_trial(trial_id).number
        if number != trial.number:
            raise ValueError(f"trial {trial.number} became number {number}, another process adds trials")
        self.trials[number] = copy.deepcopy(trial)

    def _update(self, there: FrozenTrial, trial: FrozenTrial) -> None:
        trial_id = self._storage.get_trial_id_from_study_id_trial_number(self._study_id, trial.number)
        for epoch, value in trial.intermediate_values.items():
            if epoch not in there.intermediate_values:
                self._storage.set_trial_intermediate_value(trial_id, epoch, value)
                there.intermediate_values[epoch] = value
        outcome = trial.user_attrs[OUTCOME_ATTR]
        if there.user_attrs.get(OUTCOME_ATTR) != outcome:
            self._storage.set_trial_user_attr(trial_id, OUTCOME_ATTR, outcome)
            there.set_user_attr(OUTCOME_ATTR, outcome)
        if trial.state.is_finished():  # last, since Optuna does not change ended trials
            self._storage.set_trial_state_values(trial_id, trial.state, trial.values)
            there.state = trial.state


def _end(trial: FrozenTrial, event: TrialEnd) -> None:
    trial.set_user_attr(OUTCOME_ATTR, event.outcome.value)
    trial.state = STATES[event.outcome]
    if not trial.state.is_finished():
        return
    trial.datetime_complete = _local_time(event)
    if trial.state is not TrialState.FAIL and trial.last_step is not None:
        trial.value = trial.intermediate_values[trial.last_step]


def _local_time(event: Event) -> datetime:
    return datetime.fromtimestamp(event.time)  # Optuna's times are naive local times


def _without_waiting_for_the_disk(connection: sqlite3.Connection, record: object) -> None:
    """Transactions stay whole if the process is killed; after a power cut the file is checked, and rewritten if damaged."""
    connection.execute("PRAGMA synchronous = OFF")


def _is_sound(path: Path) -> bool:
    """Whether SQLite can read the whole file. sqlite3.OperationalError if it is locked."""
    try:
        with contextlib.closing(sqlite3.connect(path, timeout=BUSY_S)) as connection:
            return bool(connection.execute("PRAGMA quick_check").fetchone() == ("ok",))
    except sqlite3.DatabaseError as error:
        if error.sqlite_errorcode == sqlite3.SQLITE_BUSY:
            raise  # a locked file must not be thrown away
        return False


def _remove(path: Path) -> None:
    for suffix in (*COMPANIONS, ""):
        path.with_name(path.name + suffix).unlink(missing_ok=True)


@contextlib.contextmanager
def mirroring(mirror: StudyMirror) -> Iterator[StudyMirror]:
    """Run the mirror for the length of the block, with Optuna's info logs off."""
    with log_levels({"optuna": logging.WARNING}), following(mirror):
        yield mirror
