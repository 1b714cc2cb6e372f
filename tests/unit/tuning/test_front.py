"""Students of several architectures: the best of each, what it costs, which no other beats; how one within a cost is found."""

import io
from dataclasses import replace
from typing import Any

import pytest
from rich.console import Console

from cpsc.errors import ConfigError
from tests.support.events import made
from tuning.export import parse_at
from tuning.launch.events import Epoch, LaunchStart, Proposed, TrialEnd, TrialStart
from tuning.outcome import Outcome
from tuning.report.as_json import launch_figures
from tuning.report.console import print_report
from tuning.report.figures import fronts
from tuning.report.front import front_headings, front_rows
from tuning.results import Launch, TrialRecord, launch_from_journal
from tuning.results.front import best_within, front_of
from tuning.trial import Assets
from tuning.trial.model_cost import student_cost, student_latency_ms


def trial(number: int, arch: str, score: float, macs: int, parameters: int, outcome: Outcome = Outcome.COMPLETED) -> TrialRecord:
    costs = {"student.macs": str(macs), "student.parameters": str(parameters), "student.bytes": str(4 * parameters)}
    return TrialRecord(
        number=number,
        run_id=f"run{number}",
        outcome=outcome,
        reason="",
        params={"student.arch": arch} | costs,
        curves={"probe_agreement": {1: score}, "probe_kl": {1: 0.5}, "test_accuracy": {1: score - 0.05}},
    )


def launch_of(*trials: TrialRecord, **more: Any) -> Launch:
    return Launch(name="small", run_id="parent", objective="probe_agreement", epochs=4, trials=trials, **more)


SMALL = trial(0, "small", 0.70, 1_000_000, 90_000)
POOR = trial(1, "small", 0.60, 1_000_000, 90_000)
WIDE = trial(2, "wide", 0.65, 2_000_000, 50_000)
LARGE = trial(3, "large", 0.90, 9_000_000, 400_000)
DIVERGED = trial(4, "huge", 0.99, 99_000_000, 900_000, Outcome.DIVERGED)


def test_the_best_of_each_architecture_the_cheapest_first() -> None:
    students = front_of(launch_of(LARGE, SMALL, WIDE, POOR, DIVERGED))
    assert [(student.arch, student.trial.number, student.score) for student in students] == [
        ("small", 0, 0.70),
        ("wide", 2, 0.65),
        ("large", 3, 0.90),
    ]


def test_on_a_front_are_those_that_no_other_beats_at_both() -> None:
    launch = launch_of(LARGE, SMALL, WIDE, latencies_ms={"small": 2.0, "wide": 1.0, "large": 0.5})
    on = {student.arch: list(student.on) for student in front_of(launch)}
    assert on == {
        "small": ["macs", "parameters", "bytes"],
        "wide": ["parameters", "bytes"],
        "large": ["macs", "parameters", "bytes", "latency_ms"],
    }


def test_of_two_alike_both_are_on_the_front() -> None:
    students = front_of(launch_of(SMALL, replace(SMALL, number=7, params=dict(SMALL.params) | {"student.arch": "twin"})))
    assert all("macs" in student.on for student in students)


def test_a_launch_of_one_architecture_has_no_front() -> None:
    assert not front_of(launch_of(SMALL, POOR))


def test_the_best_within_a_cost() -> None:
    launch = launch_of(LARGE, SMALL, WIDE, POOR, DIVERGED)
    assert best_within(launch, "macs", 5e6) is SMALL
    assert best_within(launch, "macs", 1e9) is LARGE
    assert best_within(launch, "parameters", 60_000) is WIDE
    with pytest.raises(ConfigError, match=r"--at macs=10: no student costs that little; the cheapest student of small has 1e\+06"):
        best_within(launch, "macs", 10)
    with pytest.raises(ConfigError, match="small did not record it"):
        best_within(launch, "latency_ms", 10)


@pytest.mark.parametrize("text", ["macs", "mac=3", "macs=few", "macs=-1", "macs=nan", "=3"])
def test_what_is_no_cost_and_no_limit_is_refused(text: str) -> None:
    with pytest.raises(ConfigError, match="--at: must be one of macs, parameters, bytes, latency_ms and a number"):
        parse_at(text)


def test_a_cost_and_its_limit() -> None:
    assert parse_at("macs=2e7") == ("macs", 2e7)


def test_table_json_and_figure_show_the_same_students() -> None:
    launch = launch_of(LARGE, SMALL, WIDE, latencies_ms={"small": 2.0, "wide": 1.0, "large": 5.0})
    students = front_of(launch)
    rows = front_rows(students, launch)
    assert front_headings(launch)[:4] == ["student", "trial", "probe agreement", "test accuracy"]
    assert rows[2] == ["large", "3", "90.00 %", "85.00 %", "9 M", "400 k", "1.6 M", "5", "all"]
    assert launch_figures(launch)["front"][0] | {"on_front_of": []} == {
        "arch": "small",
        "trial": 0,
        "score": 0.7,
        "macs": 1e6,
        "parameters": 9e4,
        "bytes": 3.6e5,
        "latency_ms": 2.0,
        "on_front_of": [],
    }
    figure = fronts(students, "probe_agreement").figure
    assert [list(trace.text) for trace in figure.data if trace.mode == "markers+text"] == [["small", "wide", "large"]] * 4
    printed = io.StringIO()
    print_report(launch, [], Console(file=printed, width=200))
    assert "small: the best student of each architecture, and what it costs" in printed.getvalue()


def test_latencies_are_read_from_the_launchs_own_params() -> None:
    settings = {"objective": "probe_agreement", "epochs": "1", "latency_ms.wrn_10_1": "1.25"}
    events = [
        made(LaunchStart, params=settings),
        made(Proposed),
        made(TrialStart, params={"student.arch": "wrn_10_1"}),
        made(Epoch, epoch=1, metrics={"probe_agreement": 0.5}),
        made(TrialEnd, epoch=1),
    ]
    assert launch_from_journal(events, "small").latencies_ms == {"wrn_10_1": 1.25}


def test_bytes_are_those_of_all_values_and_a_latency_is_measured(assets: Assets) -> None:
    cost = student_cost(assets.teacher, "wrn_10_1")
    assert 4 * cost["student.parameters"] < cost["student.bytes"] < 4.2 * cost["student.parameters"]
    assert 0 < student_latency_ms(assets.teacher, "wrn_10_1") < 10_000
