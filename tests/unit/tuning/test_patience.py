"""How often a server is asked again, and when it is given up."""

import logging
import time
from collections.abc import Callable
from types import SimpleNamespace

import pytest
from mlflow.exceptions import INVALID_PARAMETER_VALUE, MlflowException

from tuning.tracking import retry as patience
from tuning.tracking.answers import NoAnswerError
from tuning.tracking.retry import Patience


@pytest.fixture(autouse=True)
def short(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(patience, "RETRY_S", 0.01)
    monkeypatch.setattr(patience, "FIRST_PAUSE_S", 0.001)


def failing(*errors: Exception) -> Callable[[], str]:
    """A call that fails with each of `errors`, one after another, and is answered then."""
    left = list(errors)

    def call() -> str:
        if left:
            raise left.pop(0)
        return "answer"

    return call


@pytest.mark.parametrize(
    "error",
    [
        MlflowException("500"),
        OSError("reset"),
        KeyError("run_id"),
        ValueError("no JSON"),
        TypeError("None"),
        AttributeError("info"),
    ],
)
def test_whatever_an_answer_makes_of_the_client_is_asked_again(error: Exception) -> None:
    assert Patience(10).ask(failing(error, error, error)) == "answer"


def test_a_refusal_is_raised_at_once() -> None:
    asked = failing(MlflowException("no", INVALID_PARAMETER_VALUE))
    with pytest.raises(MlflowException, match="no"):
        Patience(10).ask(asked)
    assert asked() == "answer", "it was called once"


def test_patience_is_spent_by_failures_in_a_row_only() -> None:
    patient = Patience(0.05)
    for _ in range(20):
        assert patient.ask(failing(OSError("a"), OSError("b"))) == "answer"
    started = time.monotonic()
    with pytest.raises(OSError, match="away"):
        patient.ask(failing(*[OSError("away")] * 1000))
    assert 0.05 < time.monotonic() - started < 5


def test_it_can_be_told_to_hurry_while_it_waits() -> None:
    patient = Patience()
    calls = 0

    def call() -> None:
        nonlocal calls
        calls += 1
        if calls == 5:
            patient.limit_s = 0.0
        raise OSError("away")

    with pytest.raises(OSError, match="away"):
        patient.ask(call)
    assert calls == 5


def test_a_server_that_asks_for_a_pause_is_granted_it(monkeypatch: pytest.MonkeyPatch) -> None:
    waits: list[float] = []
    monkeypatch.setattr(patience, "time", SimpleNamespace(sleep=waits.append, monotonic=time.monotonic))

    def busy(seconds: float) -> MlflowException:
        error = MlflowException("429")
        error.__context__ = NoAnswerError("429", seconds)
        return error

    patient = Patience(1000)
    patient.ask(failing(busy(3), busy(500), MlflowException("500")))
    assert waits == [3, patience.MAX_WISH_S, 0.004]
    assert patient.waited_s == sum(waits)


def test_an_outage_is_said_once_each_and_chance_is_not(caplog: pytest.LogCaptureFixture) -> None:
    patient = Patience(10, about="tracking is away")
    with caplog.at_level(logging.WARNING, logger="tuning.tracking.retry"):
        patient.ask(failing(OSError("a"), OSError("b")))
        assert caplog.records == []
        for _ in range(2):
            patient.ask(failing(*[OSError("c")] * 7))
    assert [record.message for record in caplog.records] == ["tracking is away: c"] * 2
