"""Outcome of a trial, and whether trials still improve: one rule each, shared by search, tracking, progress and report."""

from collections.abc import Collection, Mapping
from enum import StrEnum
from typing import Any


class Outcome(StrEnum):
    """COMPLETED: ran all epochs. PRUNED: stopped for its score. DIVERGED: a bad point. FAILED: an error. INTERRUPTED: a pause."""

    COMPLETED = "completed"
    PRUNED = "pruned"
    DIVERGED = "diverged"
    FAILED = "failed"
    INTERRUPTED = "interrupted"


RUNNING = "running"
"""State of a trial without an outcome."""
MLFLOW_STATUS = {
    Outcome.COMPLETED: "FINISHED",
    Outcome.PRUNED: "KILLED",  # MLflow has no pruned status
    Outcome.DIVERGED: "FAILED",
    Outcome.FAILED: "FAILED",
    Outcome.INTERRUPTED: "KILLED",
}


WAITS = "waits"
"""Key of a result: the trial has reached the epoch where it waits for the others of its population, and continues later."""


LENGTH_PATH = "epochs"
"""Path in a point with its own number of epochs, as a finalist may have."""


def length_of(point: Mapping[str, Any], epochs: int) -> int:
    """Number of epochs of a trial at `point`, in a study with `epochs` per trial."""
    return int(point.get(LENGTH_PATH, epochs))


def outcome_of(result: Mapping[str, Any], *, epochs: int) -> Outcome:
    """The outcome of a trial that Ray calls complete, from the last result it reported.

    A trial ends by itself only at its last epoch or by diverging, so one that ended earlier was stopped by the scheduler.
    """
    if result.get("diverged"):
        return Outcome.DIVERGED
    return Outcome.COMPLETED if result.get("epoch", 0) >= epochs else Outcome.PRUNED


def trials_since_gain(values: Mapping[int, float], ended: Collection[int], *, min_gain: float = 0.0) -> int:
    """How many of the `ended` trials were proposed after the leader, the first trial within `min_gain` of the best value.

    Trials are ordered by number, not by time, so that a resumed search counts like an uninterrupted one.
    """
    if not values:
        return 0
    best = max(values.values())
    leader = min(number for number, value in values.items() if value >= best - min_gain)
    return sum(number > leader for number in ended)
