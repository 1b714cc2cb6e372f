"""A launch's journal, folded into one record a trial."""

import json
import re
from dataclasses import fields
from pathlib import Path
from typing import Any

import pytest

from cpsc.errors import ConfigError
from tests.support.events import REST, made
from tuning.launch import Journal, LaunchHistory, replay_events
from tuning.launch.clock import DRIVER_DIED
from tuning.launch.events import KINDS, Proposed, from_record, to_record
from tuning.launch.launch import check_resumable
from tuning.outcome import Outcome
from tuning.study.distributions import Distribution

METRIC = "best_probe_agreement"
Record = dict[str, Any]
"""An event as a line of the journal holds it."""


def start(number: int) -> Record:
    return {"kind": "trial_start", "number": number}


def epoch(number: int, epoch: int, value: float) -> Record:
    return {"kind": "epoch", "number": number, "epoch": epoch, "metrics": {METRIC: value, "probe_kl": 9.0}}


def end(number: int, outcome: str) -> Record:
    return {"kind": "trial_end", "number": number, "outcome": outcome}


def complete(*events: Record) -> list[Record]:
    """`events`, one a second, as a sweep writes them; each trial is proposed when it first starts."""
    timed, proposed, attempts = [], set(), 0
    last: dict[int, int] = {}
    for second, event in enumerate(events):
        if event["kind"] == "epoch":
            last[event["number"]] = event["epoch"]
        if event["kind"] == "trial_start" and event["number"] not in proposed:
            proposed.add(event["number"])
            point = {"student.lr": 0.1 * (event["number"] + 1)}
            timed.append({"time": event.get("time", float(second)), "kind": "proposed", "number": event["number"], "point": point})
        told: Record = {"attempt": attempts} if event["kind"] == "attempt_start" else {}
        told |= {"epoch": last.get(event["number"], 0)} if event["kind"] == "trial_end" else {}
        attempts += event["kind"] == "attempt_start"
        timed.append({"time": float(second)} | REST[KINDS[event["kind"]]] | told | event)
    return timed


def folded(*events: Record) -> LaunchHistory:
    return replay(complete(*events))


def replay(records: list[Record]) -> LaunchHistory:
    return replay_events(map(from_record, records), metric=METRIC)


def test_a_trial_that_was_proposed_and_never_started_is_known() -> None:
    history = replay_events([made(Proposed, point={"student.lr": 0.1})], metric=METRIC)
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
    history = folded(start(0), start(1), epoch(1, 1, 0.2), epoch(0, 1, 0.4), epoch(1, 2, 0.6))
    assert history.results == [(1, 1, 0.2), (0, 1, 0.4), (1, 2, 0.6)]
    assert history.num_epochs == 3


def test_an_interrupted_or_unfinished_trial_is_not_over_and_a_failed_one_is() -> None:
    history = folded(
        start(0), end(0, "interrupted"), start(1), start(2), end(2, "failed"), start(3), epoch(3, 1, 0), end(3, "diverged")
    )
    assert [history.trials[number].is_over for number in range(4)] == [False, False, True, True]


def test_a_trial_that_starts_again_keeps_its_past_and_is_open_again() -> None:
    history = folded(start(0), epoch(0, 1, 0.3), end(0, "interrupted"), start(0), epoch(0, 2, 0.4))
    assert history.trials[0].values == {1: 0.3, 2: 0.4}
    assert history.trials[0].outcome is None


def test_the_retries_of_a_trial_are_counted_over_all_attempts() -> None:
    history = folded(start(0), {"kind": "retry", "number": 0, "count": 1}, start(0), {"kind": "retry", "number": 0, "count": 2})
    assert history.trials[0].num_retries == 2


def test_a_launch_is_over_until_another_attempt_starts() -> None:
    begun: list[Record] = [{"kind": "launch_start", "launch_id": "x"}, {"kind": "attempt_start"}]
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
        start(0) | {"time": 1000.0},
        epoch(0, 1, 0.5) | {"time": 1002.0},
        {"kind": "launch_end", "time": 1005.0},
    )
    assert history.elapsed_s == 2.0 + 5.0


BEGUN: list[Record] = [{"kind": "launch_start", "time": 0.0}, {"kind": "attempt_start", "time": 0.0}, start(0) | {"time": 0.0}]
DAY = 86_400.0


@pytest.mark.parametrize(
    ("later", "elapsed_s"),
    [
        ([end(0, "interrupted") | {"time": DAY, "reason": DRIVER_DIED}, {"kind": "launch_end", "time": DAY, "metrics": {}}], 600.0),
        ([end(0, "completed") | {"time": DAY}, {"kind": "attempt_start", "time": DAY + 0.1}], 600.0),
        ([end(0, "completed") | {"time": 603.0}, {"kind": "attempt_start", "time": DAY}], 603.0),
        ([end(0, "completed") | {"time": 603.0}], 603.0),
        ([{"kind": "launch_end", "time": 605.0}, {"kind": "attempt_start", "time": DAY}], 605.0),
        ([{"kind": "checkpoint", "number": 0, "path": "a", "time": 500.0}], 600.0),
        ([{"kind": "checkpoint", "number": 0, "path": "a", "time": 500.0}, {"kind": "launch_end", "time": 510.0}], 610.0),
    ],
    ids=["closed later", "ended by the next attempt", "ended by itself", "last record", "in order", "clock back", "clock back, on"],
)
def test_a_launch_took_what_passed_up_to_its_last_sign_of_life(later: list[Record], elapsed_s: float) -> None:
    assert folded(*BEGUN, epoch(0, 1, 0.5) | {"time": 600.0}, *later).elapsed_s == pytest.approx(elapsed_s)


def test_a_clock_that_runs_backwards_is_remarked_on() -> None:
    (remark,) = folded(*BEGUN, epoch(0, 1, 0.5) | {"time": -3.0}).remarks
    assert remark == "line 5 is 3 s older than the one before it, as if a clock was set back"


# What no sweep writes

SOUND: list[Record] = [{"kind": "launch_start"}, {"kind": "attempt_start"}, start(0), epoch(0, 1, 0.5), end(0, "pruned")]
"""Lines 1, 2, 4, 5 and 6 of a journal; the third proposes the trial."""
TRANSFERRED: Record = {"kind": "transferred", "points": [{"student.lr": 0.3}], "scores": [0.5], "sources": ["digits"]}
FINISH: Record = {"kind": "finish_asked", "num_trials": 9}
REJECTED: Record = {"kind": "rejected", "excess": {"student.macs": 0.5}}
COMPARED: Record = {"kind": "compared", "epoch": 1, "ranking": [0, 1]}
EXPLOITED: Record = {"kind": "exploited", "number": 1, "epoch": 1, "donor": 0, "point": {"student.lr": 0.3}}


@pytest.mark.parametrize(
    ("line", "changes", "fault"),
    [
        (1, {"params": {}}, "launch_start lacks objective and epochs"),
        (1, {"params": {"objective": "probe_agreement", "epochs": "many"}}, "launch_start lacks objective and epochs"),
        (1, {"params": {"objective": 5, "epochs": "9"}}, "launch_start has no valid params"),
        (1, {"launch_id": None}, "launch_start has no valid launch_id"),
        (2, {"time": "noon"}, "attempt_start has no valid time"),
        (2, {"time": 10**400}, "attempt_start has no valid time"),
        (2, {"kind": "start"}, "kind 'start' is unknown"),
        (2, {"kind": None}, "kind 'None' is unknown"),
        (2, {"kind": ["epoch"]}, "is unknown"),
        (3, {"point": [1]}, "proposed has no valid point"),
        (3, {"number": True}, "proposed has no valid number"),
        (3, {"number": -1}, "proposed has no valid number"),
        (4, {"number": 1}, "trial 1 was never proposed"),
        (4, {"number": 0.0}, "trial_start has no valid number"),
        (5, {"metrics": {METRIC: "good"}}, "epoch has no valid metrics"),
        (5, {"metrics": {METRIC: None}}, "epoch has no valid metrics"),
        (5, {"metrics": {"probe_kl": 1.0}}, f"epoch has no {METRIC}, did this launch have another objective?"),
        (5, {"epoch": "1"}, "epoch has no valid epoch"),
        (5, {"number": 10**30}, "epoch has no valid number"),
        (6, {"outcome": "won"}, "trial_end has no valid outcome"),
        (6, {"outcome": ["pruned"]}, "trial_end has no valid outcome"),
        (6, {"checkpoint": 3}, "trial_end has no valid checkpoint"),
        (2, {"kind": "finish_asked", "num_trials": 9}, "finish_asked is outside of an attempt"),
    ],
)
def test_an_event_that_no_sweep_writes_is_refused_by_its_line(line: int, changes: Record, fault: str, tmp_path: Path) -> None:
    records = complete(*SOUND)
    records[line - 1] |= changes
    journal = Journal(tmp_path)
    journal.path.write_text("".join(json.dumps(record) + "\n" for record in records))
    with pytest.raises(ConfigError) as caught:
        replay_events(journal.events(), metric=METRIC)
    assert f"journal.jsonl line {line}: " in str(caught.value)
    assert fault in str(caught.value)
    assert str(caught.value).endswith("; restore the file from a copy, or start a new launch")


FIRST_EDITION = {
    "launch_start": ("inputs", "code_folders"),
    "rejected": ("enqueued",),
    "proposed": ("finalist_of", "enqueued"),
    "trial_start": ("inputs", "finalist_of"),
    "epoch": ("node", "environment", "marks"),
}
"""What the first version did not write yet."""
FIELDS = [(kind, field.name) for kind, cls in KINDS.items() for field in fields(cls)]


@pytest.mark.parametrize(("kind", "field"), FIELDS)
def test_an_event_that_lacks_a_field_is_refused_unless_earlier_versions_did_not_write_it(kind: str, field: str) -> None:
    rest = (
        {"kind": "checkpoint", "number": 0, "path": "a"},
        {"kind": "retry", "number": 0},
        SOUND[-1],
        FINISH,
        {"kind": "launch_end"},
    )
    first, second, *others, _ = SOUND
    taken = (start(1), epoch(1, 1, 0.4), COMPARED, EXPLOITED, end(1, "failed"))
    written = complete(first, TRANSFERRED, second, REJECTED, *others, *taken, *rest)
    records = [to_record(from_record(record)) for record in written]
    assert replay(records).remarks == []
    del next(record for record in records if record["kind"] == kind)[field]
    if field in FIRST_EDITION.get(kind, ()):
        assert replay(records).remarks == []
    else:
        with pytest.raises(ValueError, match=rf"{kind} has no valid {field}"):
            replay(records)


def test_a_trial_that_is_proposed_twice_or_missing_among_others_is_refused() -> None:
    records = complete(*SOUND)
    with pytest.raises(ConfigError, match=r"line 7: trial 0 is proposed twice"):
        replay([*records, records[2]])
    with pytest.raises(ConfigError, match=r"line 7: trial 2 is proposed, but trial 1 was not: lines are missing"):
        replay([*records, records[2] | {"number": 2}])


# The order in which a sweep writes

CHECKPOINT: Record = {"kind": "checkpoint", "number": 0, "path": "a"}
RETRY: Record = {"kind": "retry", "number": 0}
CLOSED: list[Record] = [end(0, "interrupted") | {"reason": DRIVER_DIED}, {"kind": "launch_end", "status": "KILLED", "metrics": {}}]
STARTED: list[Record] = [{"kind": "launch_start"}, {"kind": "attempt_start"}]
RUN: list[Record] = [start(0), epoch(0, 1, 0.5), CHECKPOINT, epoch(0, 2, 0.6), CHECKPOINT | {"path": "b"}]


@pytest.mark.parametrize(
    "events",
    [
        [],
        [STARTED[0]],
        [STARTED[0], {"kind": "launch_end"}, STARTED[1]],
        [*STARTED, *RUN, RETRY | {"epoch": 2}, start(0), CHECKPOINT, CHECKPOINT, epoch(0, 3, 0.7), end(0, "completed")],
        [*STARTED, *RUN, RETRY | {"epoch": 2}, RETRY | {"epoch": 2, "count": 2}, end(0, "failed"), CHECKPOINT],
        [*STARTED, *RUN, STARTED[1], start(0), CHECKPOINT, epoch(0, 3, 0.7), end(0, "pruned"), {"kind": "launch_end"}],
        [*STARTED, *RUN, *CLOSED, STARTED[1], start(0), epoch(0, 3, 0.7), end(0, "pruned"), {"kind": "launch_end"}, STARTED[1]],
        [*STARTED, *RUN, *CLOSED, end(0, "pruned"), STARTED[1], {"kind": "launch_end"}],
        [*STARTED, *RUN, end(0, "completed"), STARTED[1], STARTED[1]],
        [*STARTED, start(0), end(0, "failed"), start(1), epoch(1, 1, 0.0), end(1, "diverged"), start(2), *CLOSED[1:]],
    ],
)
def test_what_sweeps_write_is_taken(events: list[Record]) -> None:
    """Deaths, retries that repeat epochs unrecorded, ends told by the next attempt or by another sweep."""
    assert folded(*events).remarks == []


@pytest.mark.parametrize(
    ("events", "remark"),
    [
        ([*STARTED, *RUN, start(0)], "line 9: trial 0 starts twice without a retry, it counts once"),
        ([*STARTED, *RUN, RETRY, start(0), start(0)], "line 11: trial 0 starts twice without a retry, it counts once"),
        ([*STARTED, *RUN, {"kind": "launch_end"}], "line 9: the end of trial 0 is missing, its epochs tell whether it continues"),
    ],
)
def test_what_is_odd_and_changes_no_number_is_remarked_on(events: list[Record], remark: str) -> None:
    assert folded(*events).remarks == [remark]


STOOD: list[Record] = [*STARTED, start(0), epoch(0, 1, 0.5), CHECKPOINT, start(1), epoch(1, 1, 0.4)]
"""Two trials that have come to where they are compared."""


def test_a_trial_that_took_over_another_goes_on_from_its_checkpoints_with_the_values_of_both() -> None:
    trial = folded(*STOOD, COMPARED, EXPLOITED, epoch(1, 2, 0.6)).trials[1]
    assert trial.schedule == ((0, {"student.lr": 0.1}), (1, {"student.lr": 0.3}))
    assert (trial.checkpoints, trial.exploited_after, trial.scores) == (["a"], 1, {1: 0.4, 2: 0.6})


@pytest.mark.parametrize(
    ("events", "fault"),
    [
        ([*STARTED, start(0), epoch(0, 1, 0.5), COMPARED], "names trial 1, which is at another epoch: lines are missing"),
        ([*STOOD, epoch(0, 2, 0.5), COMPARED], "names trial 0, which is at another epoch"),
        ([*STOOD, end(1, "failed"), COMPARED], "names trial 1, which is at another epoch"),
        ([*STOOD, COMPARED, COMPARED], "compared after epoch 1 comes after epoch 1"),
        ([*STOOD, COMPARED | {"ranking": [0, 0]}], "compared names a trial twice"),
        ([*STOOD, {"kind": "launch_end", "status": "KILLED"}, COMPARED], "compared is outside of an attempt"),
        ([*STOOD, EXPLOITED], "trial 1 takes over trial 0 after epoch 1, but they were not compared there"),
        ([*STOOD, COMPARED, EXPLOITED | {"donor": 1}], "but one of them has already changed there"),
        ([*STOOD, COMPARED, EXPLOITED, EXPLOITED], "but one of them has already changed there"),
        ([*STOOD, COMPARED, epoch(0, 2, 0.5), EXPLOITED], "but one of them has already continued"),
    ],
)
def test_a_comparison_or_what_comes_of_it_in_the_wrong_place_is_refused(events: list[Record], fault: str) -> None:
    with pytest.raises(ConfigError, match=re.escape(fault)):
        folded(*events)


@pytest.mark.parametrize(
    ("events", "line", "fault"),
    [
        ([*STARTED, STARTED[0]], 3, "launch_start appears twice"),
        ([STARTED[1], STARTED[0]], 2, "launch_start comes after other records"),
        ([*STARTED, {"kind": "attempt_start", "attempt": 0}], 3, "attempt 0 comes after 1 attempts"),
        ([*STARTED, {"kind": "attempt_start", "attempt": 2}], 3, "attempt 2 comes after 1 attempts"),
        ([*STARTED, {"kind": "launch_end"}, {"kind": "launch_end"}], 4, "launch_end appears twice, an attempt_start is missing"),
        ([STARTED[0], start(0)], 2, "proposed of trial 0 comes before the first attempt"),
        ([*STARTED, start(0), epoch(0, 2, 0.5)], 5, "epoch 2 of trial 0 comes after 0: epoch 1 is missing"),
        ([*STARTED, *RUN, epoch(0, 5, 0.5)], 9, "epoch 5 of trial 0 comes after 2: epochs 3 to 4 are missing"),
        ([*STARTED, *RUN, epoch(0, 2, 0.6)], 9, "epoch 2 of trial 0 appears twice"),
        ([*STARTED, start(0), epoch(0, 0, 0.6)], 5, "trial 0 has an epoch 0"),
        ([*STARTED, *RUN, end(0, "pruned"), epoch(0, 3, 0.7)], 10, "epoch 3 of trial 0 comes after its end"),
        (
            [*STARTED, *RUN, STARTED[1], epoch(0, 3, 0.7)],
            10,
            "epoch 3 of trial 0 comes before its start, a trial_start is missing",
        ),
        ([*STARTED, *RUN, *CLOSED, epoch(0, 3, 0.7)], 11, "epoch of trial 0 comes after the launch's end"),
        ([*STARTED, *RUN, *CLOSED, start(1)], 11, "proposed of trial 1 comes after the launch's end"),
        ([*STARTED, *RUN, end(0, "pruned"), end(0, "pruned")], 10, "trial 0 ends twice"),
        ([*STARTED, *RUN, end(0, "pruned"), end(0, "completed")], 10, "trial 0 ends twice"),
        ([*STARTED, *RUN, end(0, "interrupted"), end(0, "interrupted")], 10, "trial 0 ends twice"),
        ([*STARTED, *RUN, end(0, "pruned"), start(0)], 10, "trial_start of trial 0 comes after its end"),
        ([*STARTED, *RUN, end(0, "pruned"), RETRY], 10, "retry of trial 0 comes after its end"),
        ([*STARTED, *RUN, RETRY, RETRY], 10, "retry 1 of trial 0 comes after retry 1"),
        ([*STARTED, *RUN, end(0, "completed") | {"epoch": 3}], 9, "trial 0 ends after epoch 3, but has 2: epoch 3 is missing"),
        (
            [*STARTED, start(0), end(0, "completed") | {"epoch": 3}],
            5,
            "ends after epoch 3, but has none: epochs 1 to 3 are missing",
        ),
        (
            [*STARTED, *RUN, end(0, "completed") | {"epoch": 1}],
            9,
            "trial 0 ends after epoch 1, but has 2: the end belongs to another trial",
        ),
        ([*STARTED, start(0), end(0, "completed")], 5, "trial 0 is completed without an epoch"),
        ([*STARTED, start(0), end(0, "diverged")], 5, "trial 0 is diverged without an epoch"),
        ([*STARTED, start(0), CHECKPOINT], 5, "trial 0 has its checkpoint 1 after 0 epochs, an epoch is missing"),
        ([*STARTED, *RUN[:3], CHECKPOINT | {"path": "b"}], 7, "trial 0 has its checkpoint 2 after 1 epochs, an epoch is missing"),
    ],
)
def test_what_is_missing_twice_or_in_another_order_is_refused_by_its_line(events: list[Record], line: int, fault: str) -> None:
    with pytest.raises(ConfigError) as caught:
        folded(*events)
    assert str(caught.value).startswith(f"journal.jsonl line {line}: ")
    assert fault in str(caught.value)
    assert str(caught.value).endswith("; restore the file from a copy, or start a new launch")


def test_a_launch_whose_first_line_is_missing_cannot_go_on() -> None:
    with pytest.raises(ConfigError, match="line 1: launch_start is missing"):
        check_resumable(folded(*SOUND[1:]), SPACE)


SPACE = {"student.lr": Distribution("uniform", (0.05, 0.5))}


def test_a_launch_whose_points_lie_in_the_space_can_go_on() -> None:
    check_resumable(folded(*SOUND), SPACE)


def test_a_launch_that_was_never_begun_cannot_go_on() -> None:
    with pytest.raises(ConfigError, match="has no launch_start"):
        check_resumable(folded(), SPACE)


@pytest.mark.parametrize(
    ("space", "fault"),
    [
        ({}, "student.lr is searched either there or in the study, but not in both"),
        (
            SPACE | {"weights.kl": Distribution("uniform", (0, 1))},
            "weights.kl is searched either there or in the study, but not in both",
        ),
        ({"student.lr": Distribution("uniform", (0.2, 0.5))}, r"student.lr 0.1 lies outside uniform\(0.2, 0.5\)"),
    ],
)
def test_a_launch_of_another_space_cannot_go_on(space: dict[str, Distribution], fault: str) -> None:
    with pytest.raises(ConfigError, match=rf"journal\.jsonl: trial 0: {fault}; keep space as it was at the start"):
        check_resumable(folded(*SOUND), space)
