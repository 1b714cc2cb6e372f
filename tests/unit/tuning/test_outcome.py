"""How a trial ended."""

from typing import Any

import pytest

from tuning.outcome import MLFLOW_STATUS, Outcome, outcome_of


@pytest.mark.parametrize(
    ("result", "outcome"),
    [
        ({"epoch": 9, "diverged": False}, Outcome.COMPLETED),
        ({"epoch": 10, "diverged": False}, Outcome.COMPLETED),
        ({"epoch": 8, "diverged": False}, Outcome.PRUNED),
        ({"epoch": 1}, Outcome.PRUNED),
        ({"epoch": 3, "diverged": True}, Outcome.DIVERGED),
        ({"epoch": 9, "diverged": True}, Outcome.DIVERGED),
        ({}, Outcome.PRUNED),
    ],
)
def test_the_last_result_tells_the_outcome(result: dict[str, Any], outcome: Outcome) -> None:
    assert outcome_of(result, epochs=9) is outcome


def test_every_outcome_has_a_status_in_mlflow() -> None:
    assert MLFLOW_STATUS == {
        Outcome.COMPLETED: "FINISHED",
        Outcome.PRUNED: "KILLED",
        Outcome.DIVERGED: "FAILED",
        Outcome.FAILED: "FAILED",
        Outcome.INTERRUPTED: "KILLED",
    }
    assert MLFLOW_STATUS.keys() == set(Outcome)
