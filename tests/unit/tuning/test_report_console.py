"""The launch in sentences and as a table."""

import io

import pytest
from rich.console import Console

from cpsc.errors import ConfigError
from tuning.outcome import Outcome
from tuning.report.console import print_comparison, print_report, summary_lines
from tuning.results import Launch, TrialRecord

Curve = dict[int, float]


def record(number: int, agreement: Curve, *, kl: Curve, accuracy: Curve, outcome: Outcome | None) -> TrialRecord:
    return TrialRecord(
        number=number,
        run_id=f"run{number}",
        outcome=outcome,
        reason="",
        params={"student.lr": "0.123456", "cpsc.contrast": "two_view", "epochs": "9"},
        curves={"probe_agreement": agreement, "probe_kl": kl, "test_accuracy": accuracy},
    )


def launch(*, labels: bool, objective: str = "probe_agreement") -> Launch:
    best = record(
        2,
        {1: 0.5, 2: 0.9},
        kl={1: 1.0, 2: 0.25},
        accuracy={1: 0.4, 2: 0.8} if labels else {},
        outcome=Outcome.COMPLETED,
    )
    pruned = record(0, {1: 0.6}, kl={1: 2.0}, accuracy={1: 0.85} if labels else {}, outcome=Outcome.PRUNED)
    diverged = record(1, {}, kl={}, accuracy={}, outcome=Outcome.DIVERGED)
    return make(best, pruned, diverged, objective=objective)


def make(*trials: TrialRecord, objective: str = "probe_agreement") -> Launch:
    return Launch(name="small", run_id="parent", objective=objective, epochs=4, trials=trials)


SEARCHED = ["student.lr", "cpsc.contrast", "weights.kl"]


def test_a_blind_launch_in_words() -> None:
    assert summary_lines(launch(labels=False), SEARCHED) == [
        "3 trials: 1 completed, 1 pruned, 1 diverged",
        "epochs: 3 run, out of 12 without pruning (25.00 %)",
        "chosen without a real image: trial 2 at epoch 2, probe_agreement 90.00 %, probe KL 0.2500",
        "its parameters: student.lr 0.123, cpsc.contrast two_view",
    ]


def test_a_launch_with_labels_adds_accuracy_regret_and_rank_correlation() -> None:
    assert summary_lines(launch(labels=True), SEARCHED)[4:] == [
        "its test accuracy: 80.00 %",
        "regret of the choice: 5.00 points below the best trial's test accuracy",
        "rank correlation of probe agreement and test accuracy over all trial-epochs: 0.500",
    ]


def test_trials_at_the_end_that_brought_nothing_are_said_where_they_are_many() -> None:
    best = record(1, {1: 0.9}, kl={1: 0.5}, accuracy={}, outcome=Outcome.COMPLETED)
    poor = [record(number, {1: 0.5}, kl={1: 1.0}, accuracy={}, outcome=Outcome.PRUNED) for number in (0, *range(2, 7))]
    said = "the last 5 trials of the search were no better than the best before them"
    assert said in summary_lines(make(best, *poor), SEARCHED)
    assert not any("no better" in line for line in summary_lines(make(best, *poor[:-1]), SEARCHED))


def test_a_launch_that_selected_on_labels_says_so() -> None:
    lines = summary_lines(launch(labels=True, objective="test_accuracy"), [])
    assert lines[2] == "chosen by labelled images: trial 2 at epoch 2, test_accuracy 80.00 %, probe KL 0.2500"
    assert not any(line.startswith("its parameters") for line in lines)


def test_a_launch_without_a_result_says_so() -> None:
    diverged = record(0, {}, kl={}, accuracy={}, outcome=Outcome.DIVERGED)
    assert summary_lines(make(diverged), SEARCHED) == [
        "1 trial: 1 diverged",
        "epochs: 0 run, out of 4 without pruning (0.00 %)",
        "no trial has a result",
    ]


def test_a_launch_without_a_trial_says_so() -> None:
    lines = summary_lines(make(), SEARCHED)
    assert lines[0].startswith("0 trials")
    assert lines[-1] == "no trial has a result"


def printed(found: Launch, searched: list[str], *, width: int = 140, terminal: bool = False) -> str:
    screen = io.StringIO()
    print_report(found, searched, Console(file=screen, width=width, color_system=None, highlight=False, force_terminal=terminal))
    return screen.getvalue()


def test_the_leaderboard_has_a_row_a_trial_and_a_dash_where_nothing_was_measured() -> None:
    rows = [[cell.strip() for cell in line.split("│")[1:-1]] for line in printed(launch(labels=True), SEARCHED).splitlines()]
    assert [row for row in rows if len(row) == 6 and row[0].isdigit()] == [
        ["2", "completed", "2", "90.00 %", "0.2500", "80.00 %"],
        ["0", "pruned", "1", "60.00 %", "2.0000", "85.00 %"],
        ["1", "diverged", "0", "-", "-", "-"],
    ]


def test_the_sentences_follow_the_leaderboard() -> None:
    found = launch(labels=True)
    assert printed(found, SEARCHED).splitlines()[-7:] == summary_lines(found, SEARCHED)


def test_a_long_sentence_is_whole_in_a_file_and_broken_between_words_in_a_terminal() -> None:
    found = launch(labels=True)
    sentence = "its parameters: student.lr 0.123, cpsc.contrast two_view"
    assert sentence in printed(found, SEARCHED, width=30)
    lines = [line.rstrip() for line in printed(found, SEARCHED, width=30, terminal=True).splitlines()]
    start = lines.index("its parameters: student.lr")
    assert lines[start + 1] == "0.123, cpsc.contrast two_view"


def test_the_leaderboard_shows_the_ten_best_and_says_of_how_many() -> None:
    trials = [record(number, {1: 0.9}, kl={}, accuracy={}, outcome=None) for number in range(12)]
    text = printed(make(*trials), [])
    assert "small: the best 10 of 12 trials" in text
    assert sum("running │" in line for line in text.splitlines()) == 10


def test_while_a_sweep_runs_only_what_is_over_is_compared_with_what_it_might_have_run() -> None:
    ended = [record(number, {1: 0.9, 2: 0.9}, kl={}, accuracy={}, outcome=Outcome.COMPLETED) for number in range(2)]
    pruned = record(2, {1: 0.1}, kl={}, accuracy={}, outcome=Outcome.PRUNED)
    running = record(3, {1: 0.2}, kl={}, accuracy={}, outcome=None)
    waiting = record(4, {1: 0.3}, kl={}, accuracy={}, outcome=Outcome.INTERRUPTED)
    assert summary_lines(make(*ended, pruned, running, waiting), [])[:2] == [
        "5 trials so far: 2 completed, 1 pruned, 1 interrupted, 1 running",
        "epochs: 7 run so far; the 3 trials that are over: 5 out of 12 without pruning (41.67 %)",
    ]
    assert summary_lines(make(running), [])[:2] == ["1 trial so far: 1 running", "epochs: 1 run so far"]


@pytest.mark.parametrize("name", ["[bold]x[/]", "a[1]"])
def test_a_parameter_with_brackets_is_printed_as_it_is(name: str) -> None:
    trial = record(0, {1: 0.9}, kl={}, accuracy={}, outcome=Outcome.COMPLETED)
    marked = TrialRecord(**(vars(trial) | {"params": {"student.arch": name}}))
    assert f"its parameters: student.arch {name}" in printed(make(marked), ["student.arch"])


def test_a_comparison_is_markdown_however_narrow_the_terminal() -> None:
    screen = io.StringIO()
    curves = {"probe_agreement": {1: 0.5}, "test_accuracy": {1: 0.6}, "epoch_s": {1: 2.0}, "replay_bytes": {1: 0.0}}
    trials = [
        TrialRecord(number=n, run_id=None, outcome=Outcome.COMPLETED, reason="", params={"method": name}, curves=curves)
        for n, name in enumerate(("cpsc", "dafl"))
    ]
    found = Launch(name="methods", run_id=None, objective="probe_agreement", epochs=1, trials=trials)
    console = Console(file=screen, width=40, color_system=None)
    print_comparison(found, ["method"], console, target=0.95)
    rows = [line for line in screen.getvalue().splitlines() if line.startswith("|")]
    assert [row.split("|")[1].strip() for row in (rows[0], *rows[2:])] == ["method", "cpsc", "dafl"]
    with pytest.raises(ConfigError, match=r"--by methd: no trial of launch methods has this parameter"):
        print_comparison(found, ["methd"], console, target=0.95)
