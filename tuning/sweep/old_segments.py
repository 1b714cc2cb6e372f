"""Checkpoints that a population needs no more: those from before the comparison before the last."""

import contextlib
from typing import Any

from ray.tune import Callback
from ray.tune.experiment import Trial

from cpsc.errors import ConfigError
from tuning.storage import Storage
from tuning.sweep.recorder import number_of

SEGMENTS_KEPT = 2
"""Of a trial, that which runs and the one before, from whose end it, and those that have taken it over, have gone on."""


class OldSegments(Callback):
    """Deletes what a trial's earlier Tune trials of this attempt have saved; `attempt`: where in `storage` their folders are."""

    def __init__(self, storage: Storage, attempt: str) -> None:
        self._storage, self._attempt = storage, attempt
        self._folders: dict[int, list[str]] = {}

    def on_trial_start(self, iteration: int, trials: list[Trial], trial: Trial, **info: Any) -> None:
        folders = self._folders.setdefault(number_of(trial), [])
        if trial.config.get("until") and folders[-1:] != [folder_name(trial)]:
            folders.append(folder_name(trial))
            for old in folders[:-SEGMENTS_KEPT]:
                folders.remove(old)
                with contextlib.suppress(ConfigError):  # no reason to end a sweep
                    self._storage.delete_folder(f"{self._attempt}/{old}")


def folder_name(trial: Any) -> str:
    """A trial's folder under the attempt's: its number alone, parameters stand in MLflow; of a population, how far it runs, too."""
    until = trial.config.get("until")
    return f"trial-{trial.config['number']:03d}" + (f"-to-{until:03d}" if until else "")
