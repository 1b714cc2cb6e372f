"""Checkpoints of a recorded trial that still exist: those in the study's storage, and the one logged with its run."""

import re
import tempfile
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from cpsc import checkpoint
from cpsc.errors import CheckpointError, ConfigError
from tuning.results.recorded_trial import RecordedTrial
from tuning.storage import Storage
from tuning.study import Study
from tuning.tracking.client import FAILURES
from tuning.tracking.translation import ARTIFACT_FOLDERS
from tuning.trial.files import BEST_STUDENT_FILE, STATE_FILE

LAST, BEST = "last", "best"


@dataclass(frozen=True)
class KeptCheckpoint:
    """A trial's checkpoint as local files. `epoch`: the last epoch that it includes."""

    folder: Path
    epoch: int


def check_wanted(wanted: str) -> None:
    """Raise ConfigError unless `wanted` names a checkpoint: `LAST`, `BEST` or an epoch."""
    if wanted not in (LAST, BEST) and not (wanted.isascii() and wanted.isdecimal() and int(wanted) > 0):
        raise ConfigError(f"--from-checkpoint: must be {LAST}, {BEST} or an epoch, got {wanted!r}")


@contextmanager
def kept_checkpoint(trial: RecordedTrial, study: Study, wanted: str) -> Iterator[KeptCheckpoint]:
    """Yields the trial's checkpoint of the epoch `wanted`, its last one, or that of its best epoch.

    ConfigError, which lists the epochs that exist, if that checkpoint was not kept.
    """
    check_wanted(wanted)
    with ExitStack() as stack:
        kept = {found.epoch: found for found in _whole(stack, trial, study)}
        if not kept:
            raise ConfigError(f"run {trial.run_id}: no checkpoint of {trial} can be read; leave --from-checkpoint out")
        epoch = max(kept) if wanted == LAST else trial.best_epoch if wanted == BEST else int(wanted)
        if epoch not in kept:
            epochs = ", ".join(map(str, sorted(kept)))
            asked = f"{wanted} (epoch {epoch})" if wanted == BEST else f"epoch {wanted}"
            raise ConfigError(f"--from-checkpoint: {trial} has checkpoints only of epoch {epochs}, got {asked}")
        yield kept[epoch]


@contextmanager
def best_student(trial: RecordedTrial, study: Study) -> Iterator[Path]:
    """Yields the file with the weights of the trial's best epoch: the one logged with its run, or the newest in the storage.

    CheckpointError if none can be read, or if all that can were made before the best epoch.
    """
    with ExitStack() as stack:
        folders = list(_logged(stack, trial, BEST_STUDENT_FILE))
        for folder in folders:
            if _is_readable(folder / BEST_STUDENT_FILE):
                yield folder / BEST_STUDENT_FILE
                return
        kept = {found.epoch: found for found in _whole(stack, trial, study)}
        if not kept or max(kept) < (trial.best_epoch or 0):
            where = f"neither from the run nor from {Storage(study.storage)}"
            raise CheckpointError(f"run {trial.run_id}: the best student of {trial} can be read {where}")
        yield kept[max(kept)].folder / BEST_STUDENT_FILE


def _whole(stack: ExitStack, trial: RecordedTrial, study: Study) -> Iterator[KeptCheckpoint]:
    """All readable checkpoints of this trial; the storage may also hold those of another launch with the same name."""
    for folder in (*_logged(stack, trial, STATE_FILE), *_stored(stack, trial, study)):
        try:
            state = checkpoint.load(folder / STATE_FILE, kind="trial checkpoint", needs=("epoch", "history"))
        except CheckpointError:
            continue
        if _is_of(trial, state) and _is_readable(folder / BEST_STUDENT_FILE):
            yield KeptCheckpoint(folder, state["epoch"])


def _is_of(trial: RecordedTrial, state: dict[str, Any]) -> bool:
    """Whether the checkpoint's history agrees with the record."""
    if type(state["epoch"]) is not int or not isinstance(state["history"], list):
        return False
    recorded = trial.curves.get("probe_kl", {})
    seen = {index: metrics.get("probe_kl") for index, metrics in enumerate(state["history"], start=1)}
    return all(recorded[epoch] == value for epoch, value in seen.items() if epoch in recorded)


def _is_readable(file: Path) -> bool:
    try:
        checkpoint.load(file, kind="best student", needs=("arch", "student"))
    except CheckpointError:
        return False
    return True


def _logged(stack: ExitStack, trial: RecordedTrial, name: str) -> Iterator[Path]:
    """The run's checkpoint artifacts, downloaded, if the file `name` is among them."""
    where = ARTIFACT_FOLDERS[name]
    target = stack.enter_context(tempfile.TemporaryDirectory(prefix="cpsc-"))
    try:
        paths = [item.path for item in trial.client.list_artifacts(trial.run_id, where)]
        if f"{where}/{name}" in paths:
            yield Path(trial.client.download_artifacts(trial.run_id, where, target))
    except FAILURES:
        return  # the storage may have what the server lacks


def _stored(stack: ExitStack, trial: RecordedTrial, study: Study) -> Iterator[Path]:
    storage = Storage(study.storage)
    for folder in _folders(storage, trial):
        for found in storage.names(folder):
            if found.startswith("checkpoint_"):
                try:
                    yield stack.enter_context(storage.reading(storage.path(f"{folder}/{found}")))
                except CheckpointError:
                    continue


def _folders(storage: Storage, trial: RecordedTrial) -> Iterator[str]:
    """The trial's folders in each attempt; a trial of a population has several."""
    own = re.compile(rf"trial-{trial.number:03d}(-to-\d+)?")
    for attempt in storage.names(trial.launch):
        if attempt.startswith("attempt-"):
            folder = f"{trial.launch}/{attempt}"
            yield from (f"{folder}/{name}" for name in storage.names(folder) if own.fullmatch(name))
