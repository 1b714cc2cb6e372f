"""A replay's results beside the record: equal to the last bit or not, and what is said of it."""

import math
from typing import Any

from tests.support.records import recorded_trial
from tuning.outcome import Outcome
from tuning.replay.comparison import Comparison
from tuning.results.recorded_trial import RecordedTrial


def result(trial: RecordedTrial, epoch: int, **changes: Any) -> dict[str, Any]:
    """What the trainable reports where it repeats the record, with `changes`."""
    return {**trial.at(epoch), "epoch": epoch, "diverged": False, "done": False, "note": "", **changes}


def test_the_same_numbers_are_called_identical() -> None:
    trial = recorded_trial()
    comparison = Comparison(trial)
    assert [comparison.add(result(trial, epoch)) for epoch in (1, 2, 3)] == ["as recorded"] * 3
    assert comparison.verdict() == "identical to the record in 3 epochs, all 12 numbers"
    assert comparison.is_as_recorded


def test_the_first_bit_that_differs_is_named() -> None:
    trial = recorded_trial()
    comparison = Comparison(trial)
    comparison.add(result(trial, 1))
    words = comparison.add(result(trial, 2, **{"student/kl": math.nextafter(0.6, 1.0)}))
    comparison.add(result(trial, 3, probe_kl=0.7))
    assert words.startswith("1 of 4 metrics differ, student/kl 0.6 here, 0.6 recorded")
    assert comparison.verdict().startswith("differs from the record from epoch 2 on: student/kl 0.6")
    assert not comparison.is_as_recorded


def test_an_epoch_shows_the_objective_first() -> None:
    trial = recorded_trial()
    words = Comparison(trial).add(result(trial, 1, **{"student/kl": 1.0, "probe_agreement": 0.5}))
    assert words == "2 of 4 metrics differ, probe_agreement 0.5 here, 0.25 recorded"


def test_measured_time_is_not_compared() -> None:
    trial = recorded_trial()
    comparison = Comparison(trial)
    comparison.add(result(trial, 1, epoch_s=1e9))
    assert comparison.is_as_recorded


def test_epochs_beyond_the_record_are_said_to_be() -> None:
    trial = recorded_trial()
    comparison = Comparison(trial)
    comparison.add(result(trial, 3))
    assert comparison.add({"epoch": 4, "probe_kl": 0.1, "diverged": False}) == "not in the record"
    comparison.add({"epoch": 5, "probe_kl": 0.1, "diverged": False})
    assert "epochs 4 to 5 are not in the record" in comparison.verdict()
    assert comparison.is_as_recorded


def test_without_a_shared_epoch_nothing_is_claimed() -> None:
    comparison = Comparison(recorded_trial(curves={}))
    comparison.add({"epoch": 1, "probe_kl": 0.1, "diverged": False})
    assert comparison.verdict() == "nothing to compare: none of these epochs is in the record"


def test_a_metric_that_is_not_measured_here_is_named() -> None:
    trial = recorded_trial()
    comparison = Comparison(trial)
    here = result(trial, 1)
    del here["probe_kl"]
    comparison.add(here)
    assert "recorded but not measured here: probe_kl" in comparison.verdict()


def test_a_change_on_purpose_is_given_as_the_cause() -> None:
    trial = recorded_trial()
    comparison = Comparison(trial, ["weights.l2 1 -> 2"])
    comparison.add(result(trial, 1, probe_kl=9.0))
    assert comparison.verdict().startswith("differs from the record from epoch 1 on, with weights.l2 1 -> 2: probe_kl 9")


def test_a_divergence_is_compared_by_epoch_and_reason() -> None:
    trial = recorded_trial(outcome=Outcome.DIVERGED, reason="student term kl is not finite at step 4 of the epoch")
    same, other, none = Comparison(trial), Comparison(trial), Comparison(trial)
    same.add(result(trial, 3, diverged=True, reason=trial.reason))
    other.add(result(trial, 3, diverged=True, reason="generator term label is not finite"))
    none.add(result(trial, 3))
    assert same.is_as_recorded
    assert same.expects_divergence
    assert not other.is_as_recorded
    assert "diverged for another reason: generator term label" in other.verdict()
    assert not none.is_as_recorded
    assert "did not diverge in epoch 3" in none.verdict()


def test_a_failure_that_does_not_come_again_is_told_and_is_no_difference() -> None:
    trial = recorded_trial(outcome=Outcome.FAILED, reason="the worker died")
    comparison = Comparison(trial)
    for epoch in (1, 2, 3):
        comparison.add(result(trial, epoch))
    assert "did not fail here" not in comparison.verdict()
    comparison.add({"epoch": 4, "probe_kl": 0.1, "diverged": False})
    assert "did not fail here; recorded: the worker died" in comparison.verdict()
    assert comparison.is_as_recorded
