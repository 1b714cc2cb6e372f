"""A launch's journal, folded into one record a trial."""

from typing import Any

from tuning.history import LaunchHistory, fold
from tuning.outcome import Outcome

METRIC = "best_probe_agreement"
Event = dict[str, Any]


def start(number: int) -> Event:
    return {"kind": "trial_start", "number": number}


def epoch(number: int, epoch: int, value: float) -> Event:
    return {"kind": "epoch", "number": number, "epoch": epoch, "metrics": {METRIC: value, "probe_kl": 9.0}}


def end(number: int, outcome: str) -> Event:
    return {"kind": "trial_end", "number": number, "outcome": outcome}


def folded(*events: Event) -> LaunchHistory:
    """The history of `events`, one a second; each trial is proposed when it first starts."""
    timed, proposed = [], set()
    for second, event in enumerate(events):
        if event["kind"] == "trial_start" and event["number"] not in proposed:
            proposed.add(event["number"])
            point = {"student.lr": 0.1 * (event["number"] + 1)}
            timed.append({"time": float(second), "kind": "proposed", "number": event["number"], "point": point})
        timed.append({"time": float(second)} | event)
    return fold(timed, metric=METRIC)


def test_a_trial_that_was_proposed_and_never_started_is_known() -> None:
    history = fold([{"time": 0.0, "kind": "proposed", "number": 0, "point": {"student.lr": 0.1}}], metric=METRIC)
    assert history.trials[0].point == {"student.lr": 0.1}
    assert not history.trials[0].is_over


def test_an_empty_journal_is_a_launch_without_a_past() -> None:
    history = folded()
    assert history == LaunchHistory()
    assert (history.num_epochs, history.num_attempts, history.is_over) == (0, 0, False)


def test_a_trial_has_its_point_values_checkpoints_and_end() -> None:
    history = folded(
        start(0),
        epoch(0, 1, 0.3),
        {"kind": "checkpoint", "number": 0, "path": "a"},
        epoch(0, 2, 0.5),
        {"kind": "checkpoint", "number": 0, "path": "b"},
        end(0, "pruned"),
    )
    trial = history.trials[0]
    assert (trial.number, trial.point, trial.values, trial.checkpoints) == (0, {"student.lr": 0.1}, {1: 0.3, 2: 0.5}, ["a", "b"])
    assert (trial.last_epoch, trial.outcome, trial.is_over) == (2, Outcome.PRUNED, True)


def test_results_keep_the_order_in_which_they_arrived() -> None:
    history = folded(start(1), start(0), epoch(1, 1, 0.2), epoch(0, 1, 0.4), epoch(1, 2, 0.6))
    assert history.results == [(1, 1, 0.2), (0, 1, 0.4), (1, 2, 0.6)]
    assert history.num_epochs == 3


def test_an_interrupted_or_unfinished_trial_is_not_over_and_a_failed_one_is() -> None:
    history = folded(start(0), end(0, "interrupted"), start(1), start(2), end(2, "failed"), start(3), end(3, "diverged"))
    assert [history.trials[number].is_over for number in range(4)] == [False, False, True, True]


def test_a_trial_that_starts_again_keeps_its_past_and_is_open_again() -> None:
    history = folded(start(0), epoch(0, 1, 0.3), end(0, "interrupted"), start(0), epoch(0, 2, 0.4))
    assert history.trials[0].values == {1: 0.3, 2: 0.4}
    assert history.trials[0].outcome is None


def test_a_launch_is_over_until_another_attempt_starts() -> None:
    begun: list[Event] = [{"kind": "launch_start", "launch_id": "x"}, {"kind": "attempt_start"}]
    assert not folded(*begun).is_over
    assert folded(*begun, {"kind": "launch_end"}).is_over
    again = folded(*begun, {"kind": "launch_end"}, {"kind": "attempt_start"})
    assert (again.launch_id, again.num_attempts, again.is_over) == ("x", 2, False)


def test_the_time_of_every_attempt_counts_and_the_pauses_between_do_not() -> None:
    """The first attempt is killed at 13 without a word; the second runs from 1000 to 1005."""
    history = folded(
        {"kind": "launch_start", "launch_id": "x", "time": 10.0},
        {"kind": "attempt_start", "time": 11.0},
        start(0) | {"time": 13.0},
        {"kind": "attempt_start", "time": 1000.0},
        epoch(0, 1, 0.5) | {"time": 1002.0},
        {"kind": "launch_end", "time": 1005.0},
    )
    assert history.elapsed_s == 2.0 + 5.0
