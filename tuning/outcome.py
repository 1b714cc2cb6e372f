"""How a trial ended, read off its last result: one rule for search, tracking, progress and report."""

from collections.abc import Mapping, Sequence
from enum import StrEnum
from typing import Any


class Outcome(StrEnum):
    """COMPLETED ran all its epochs, PRUNED was stopped on merit, DIVERGED is a bad point, FAILED a broken machine."""

    COMPLETED = "completed"
    PRUNED = "pruned"
    DIVERGED = "diverged"
    FAILED = "failed"
    INTERRUPTED = "interrupted"


MLFLOW_STATUS = {
    Outcome.COMPLETED: "FINISHED",
    Outcome.PRUNED: "KILLED",  # MLflow has no pruned status
    Outcome.DIVERGED: "FAILED",
    Outcome.FAILED: "FAILED",
    Outcome.INTERRUPTED: "KILLED",
}


def number_of(trial_id: str, trials: Sequence[Any]) -> int:
    """A trial's number in its study, from 0 in the order in which the search proposed them (not that of their start)."""
    return next(number for number, trial in enumerate(trials) if trial.trial_id == trial_id)


def outcome_of(result: Mapping[str, Any], *, epochs: int) -> Outcome:
    """The outcome of a trial that Ray calls complete, from the last result it reported.

    A trial ends itself only at its last epoch or by diverging, so one that ended before was stopped by the scheduler.
    """
    if result.get("diverged"):
        return Outcome.DIVERGED
    return Outcome.COMPLETED if result.get("training_iteration", 0) >= epochs else Outcome.PRUNED
