"""Outcome of a trial, and whether trials still gain: one rule each for search, tracking, progress and report."""

from collections.abc import Collection, Mapping
from enum import StrEnum
from typing import Any


class Outcome(StrEnum):
    """COMPLETED ran all its epochs, PRUNED was stopped on merit, DIVERGED is a bad point, FAILED a broken machine."""

    COMPLETED = "completed"
    PRUNED = "pruned"
    DIVERGED = "diverged"
    FAILED = "failed"
    INTERRUPTED = "interrupted"


RUNNING = "running"
"""What is said of a trial that has no outcome yet."""
MLFLOW_STATUS = {
    Outcome.COMPLETED: "FINISHED",
    Outcome.PRUNED: "KILLED",  # MLflow has no pruned status
    Outcome.DIVERGED: "FAILED",
    Outcome.FAILED: "FAILED",
    Outcome.INTERRUPTED: "KILLED",
}


WAITS = "waits"
"""Of a result: the trial has come to where it waits for the others of its population, and goes on later."""


LENGTH_PATH = "epochs"
"""Of a point that has a length of its own, as a finalist's may."""


def length_of(point: Mapping[str, Any], epochs: int) -> int:
    """Epochs of a trial at `point`, in a study whose trials have `epochs`."""
    return int(point.get(LENGTH_PATH, epochs))


def outcome_of(result: Mapping[str, Any], *, epochs: int) -> Outcome:
    """The outcome of a trial that Ray calls complete, from the last result it reported.

    A trial ends itself only at its last epoch or by diverging, so one that ended before was stopped by the scheduler.
    """
    if result.get("diverged"):
        return Outcome.DIVERGED
    return Outcome.COMPLETED if result.get("epoch", 0) >= epochs else Outcome.PRUNED


def trials_since_gain(values: Mapping[int, float], ended: Collection[int], *, min_gain: float = 0.0) -> int:
    """How many of the trials that `ended` were proposed after the leader: the first within `min_gain` of the best value.

    Numbers decide, not times, so that a resumed search counts as an uninterrupted one.
    """
    if not values:
        return 0
    best = max(values.values())
    leader = min(number for number, value in values.items() if value >= best - min_gain)
    return sum(number > leader for number in ended)
