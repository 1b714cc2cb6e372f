"""What results say of trials that took over others: their last values, their own epochs alone, where they come from."""

from collections.abc import Iterator
from dataclasses import replace

from tests.support.events import made
from tests.support.records import recorded_trial
from tuning.launch.events import AttemptStart, Compared, Epoch, Event, Exploited, LaunchStart, Proposed, TrialEnd, TrialStart
from tuning.lineage import Segment, Stretch
from tuning.replay.replay import scheduled
from tuning.report.as_json import launch_figures
from tuning.report.console import summary_lines
from tuning.results import Launch, launch_from_journal
from tuning.tracking.exploit_tags import exploit_tag, exploits_in

RATE = "student.lr"
SCORES = {0: [0.5, 0.6, 0.7], 1: [0.9, 0.2, 0.8]}
"""Trial 1 is the better of the two in its first epoch and the worse in its second, after which it takes over trial 0."""
EXPLOITED = made(Exploited, number=1, epoch=2, donor=0, point={RATE: 0.12})


def events() -> Iterator[Event]:
    yield made(LaunchStart, params={"objective": "probe_agreement", "epochs": "3"})
    yield made(AttemptStart)
    for number in SCORES:
        point = {RATE: 0.1 + number}
        yield made(Proposed, number=number, point=point)
        yield made(TrialStart, number=number, point=point, params={RATE: str(point[RATE]), "seed": "0"})
    for epoch in (1, 2, 3):
        for number, scores in SCORES.items():
            metrics = {"probe_agreement": scores[epoch - 1], "best_probe_agreement": max(scores[:epoch]), "probe_kl": 1.0}
            yield made(Epoch, number=number, epoch=epoch, metrics=metrics)
        if epoch == 2:
            yield made(Compared, epoch=2, ranking=[0, 1])
            yield EXPLOITED
    for number in SCORES:
        yield made(TrialEnd, number=number, epoch=3)


def launch() -> Launch:
    return launch_from_journal(events(), "small")


def test_what_a_trial_was_before_it_took_over_another_is_no_part_of_its_result() -> None:
    found = {trial.number: trial for trial in launch().trials}
    assert found[1].best_epoch("probe_agreement") == 3
    assert (found[1].point, found[1].params[RATE], found[1].params["seed"]) == ({RATE: 0.12}, "0.12", "0")
    assert (found[0].point, found[0].exploits) == ({RATE: 0.1}, ())


def test_the_report_tells_the_lineage_of_the_chosen_student_and_the_values_along_it() -> None:
    lines = summary_lines(launch(), [RATE])
    assert lines[lines.index("its parameters: student.lr 0.12") + 1 :][:3] == [
        "they changed while it trained, because it copied the state of other trials:",
        "  epochs 1 to 2 as trial 0: student.lr 0.1",
        "  epoch 3 as trial 1: student.lr 0.12",
    ]
    assert launch_figures(launch())["lineage"] == [
        {"number": 0, "after": 0, "until": 2, "point": {RATE: 0.1}},
        {"number": 1, "after": 2, "until": 3, "point": {RATE: 0.12}},
    ]


def test_a_launch_without_a_population_has_no_lineage() -> None:
    plain = launch_from_journal([event for event in events() if event is not EXPLOITED], "small")
    assert plain.chosen is not None
    assert plain.lineage_of(plain.chosen) == []
    assert not [line for line in summary_lines(plain, [RATE]) if "took over" in line]


def test_the_tags_of_a_run_tell_what_it_took_over_in_its_order() -> None:
    later = replace(EXPLOITED, epoch=10, donor=3)
    found = exploits_in(exploit_tag(later) | exploit_tag(EXPLOITED) | {"outcome": "completed"})
    assert found == [(2, 0, {RATE: 0.12}), (10, 3, {RATE: 0.12})]


def test_a_replay_lays_what_was_changed_over_every_value_of_the_schedule() -> None:
    schedule = [Segment(0, {RATE: 0.1, "weights.l2": 1.0}), Segment(2, {RATE: 0.12, "weights.l2": 2.0})]
    trial = recorded_trial(point={RATE: 1.1, "weights.l2": 5.0}, schedule=schedule, lineage=[Stretch(0, 0, 2, {})])
    assert scheduled(trial, {RATE: 1.1, "weights.l2": 3.0, "epochs": 9}) == [
        Segment(0, {RATE: 0.1, "weights.l2": 3.0, "epochs": 9}),
        Segment(2, {RATE: 0.12, "weights.l2": 3.0, "epochs": 9}),
    ]
    assert scheduled(recorded_trial(), {RATE: 0.1}) == []
