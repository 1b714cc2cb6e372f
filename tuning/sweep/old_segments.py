"""Deletes checkpoints that a population no longer needs: those from before the comparison before the last."""

import contextlib
from typing import Any

from ray.tune import Callback
from ray.tune.experiment import Trial

from cpsc.errors import ConfigError
from tuning.storage import Storage
from tuning.sweep.recorder import number_of

SEGMENTS_KEPT = 2
"""Segments to keep per trial: the running one, and the previous one, from which it and trials that took it over have continued."""


class OldSegments(Callback):
    """Deletes the checkpoints of a trial's earlier Tune trials in this attempt; `attempt`: their parent folder in `storage`."""

    def __init__(self, storage: Storage, attempt: str) -> None:
        self._storage, self._attempt = storage, attempt
        self._folders: dict[int, list[str]] = {}

    def on_trial_start(self, iteration: int, trials: list[Trial], trial: Trial, **info: Any) -> None:
        folders = self._folders.setdefault(number_of(trial), [])
        if trial.config.get("until") and folders[-1:] != [folder_name(trial)]:
            folders.append(folder_name(trial))
            for old in folders[:-SEGMENTS_KEPT]:
                folders.remove(old)
                with contextlib.suppress(ConfigError):  # a failure must not end the sweep
                    self._storage.delete_folder(f"{self._attempt}/{old}")


def folder_name(trial: Any) -> str:
    """Name of a trial's folder in the attempt's: its number and, in a population, the last epoch of the segment."""
    until = trial.config.get("until")
    return f"trial-{trial.config['number']:03d}" + (f"-to-{until:03d}" if until else "")
