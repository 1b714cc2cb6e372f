"""What puts a launch in doubt: from its record alone, on the terminal, on the page, as JSON, and where it is not known."""

import io
from dataclasses import replace
from typing import Any

import pytest
from rich.console import Console

from cpsc.ground import Ground
from cpsc.marks import Marks
from tests.support.events import made
from tests.support.ruined import SOUND
from tuning.launch.events import Epoch, LaunchStart, TrialEnd, TrialStart
from tuning.outcome import Outcome
from tuning.report.as_json import launch_figures
from tuning.report.console import print_report
from tuning.results import Launch, TrialRecord, launch_from_journal
from tuning.results.html import launch_html
from tuning.results.in_doubt import in_doubt


def trial(number: int, agreement: float, *, right: int = 0, **curves: float) -> TrialRecord:
    """One epoch of it. `right`: how many of 500 questions it has right, the first ones."""
    return TrialRecord(
        number=number,
        run_id=None,
        outcome=Outcome.COMPLETED,
        reason="",
        params={},
        curves={"probe_agreement": {1: agreement}, "test_accuracy": {}, **{name: {1: value} for name, value in curves.items()}},
        marks=Marks((1 << right) - 1, (500,)) if right else None,
    )


def launch_of(*trials: TrialRecord, ground: Ground | None = SOUND) -> Launch:
    return Launch(name="small", run_id=None, objective="probe_agreement", epochs=1, trials=trials, ground=ground)


def names(launch: Launch) -> list[str]:
    return [finding.name for finding in in_doubt(launch)]


def test_nothing_is_said_of_a_student_that_has_learned() -> None:
    assert names(launch_of(trial(0, 0.9, test_accuracy=0.8, untrained_agreement=0.1))) == []


@pytest.mark.parametrize(
    ("chosen", "said"),
    [
        (trial(0, 0.12, untrained_agreement=0.02), ["champion_at_chance"]),  # one class and no other
        (trial(0, 0.63, untrained_agreement=0.61), ["champion_untrained"]),  # a rate of nothing, and selected weights
        (trial(0, 0.12, untrained_agreement=0.11), ["champion_at_chance", "champion_untrained"]),
        (trial(0, 0.62, test_accuracy=0.11, untrained_agreement=0.1), ["test_accuracy_at_chance"]),
        (trial(0, 0.12), ["champion_at_chance"]),  # an earlier version did not look at the student before its first step
    ],
)
def test_a_champion_that_has_learned_nothing_is_told(chosen: TrialRecord, said: list[str]) -> None:
    assert names(launch_of(chosen)) == said


def test_a_student_that_always_says_what_the_teacher_mostly_says_is_at_chance() -> None:
    assert names(launch_of(trial(0, 0.45), ground=replace(SOUND, largest_class=0.45))) == ["champion_at_chance"]
    assert names(launch_of(trial(0, 0.45), ground=replace(SOUND, largest_class=0.30))) == []


def test_trials_none_of_which_is_told_from_the_best_are_no_choice() -> None:
    alike = [trial(number, 0.9, right=450 - number) for number in range(3)]
    assert names(launch_of(*alike)) == ["no_trial_apart"]
    assert names(launch_of(*alike, trial(3, 0.5, right=250))) == []
    assert names(launch_of(*alike[:2])) == [], "of two trials that says little"
    assert names(launch_of(*(trial(number, 0.9) for number in range(3)))) == [], "nobody has recorded what they have right"


def test_what_the_probe_set_said_before_is_said_again() -> None:
    assert names(launch_of(trial(0, 0.62), ground=replace(SOUND, label_rate=0.2))) == ["label_rate"]
    assert names(launch_of(ground=replace(SOUND, label_rate=0.2))) == ["label_rate"], "also before there is a result"


def test_of_a_launch_that_an_earlier_version_recorded_nothing_is_made_up() -> None:
    assert names(launch_of(trial(0, 0.1, test_accuracy=0.1), ground=None)) == []


def test_a_journal_holds_all_that_is_needed() -> None:
    params = {"objective": "probe_agreement", "epochs": "2"} | replace(SOUND, at_bounds=0.7).to_params()
    metrics: list[dict[str, Any]] = [{"probe_agreement": 0.1, "untrained_agreement": 0.1}, {"probe_agreement": 0.12}]
    events = [
        made(LaunchStart, time=0.0, launch_id="one", params=params, study=""),
        made(TrialStart, time=1.0, number=0, point={}, params={}, ray_trial_id="r0"),
        *(made(Epoch, time=2.0, number=0, epoch=epoch, metrics=found, note="") for epoch, found in enumerate(metrics, start=1)),
        made(TrialEnd, time=3.0, number=0, outcome=Outcome.COMPLETED, reason="", epoch=2, checkpoint=None),
    ]
    assert names(launch_from_journal(events, "small")) == ["at_bounds", "champion_at_chance", "champion_untrained"]


def test_it_is_said_on_the_terminal_in_a_notebook_and_as_json() -> None:
    launch = launch_of(trial(0, 0.12))
    (finding,) = in_doubt(launch)
    printed = io.StringIO()
    print_report(launch, [], Console(file=printed, width=400))
    assert f"IN DOUBT: {finding}\n" in printed.getvalue()
    assert f"in doubt: {finding}".replace("'", "&#x27;") in launch_html(launch)
    (told,) = launch_figures(launch)["in_doubt"]
    assert (told["name"], told["is_fatal"]) == ("champion_at_chance", False)
    assert "IN DOUBT" not in str(finding)
