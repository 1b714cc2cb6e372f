"""What a notebook shows of a launch and of a sweep."""

from dataclasses import replace
from html.parser import HTMLParser

import pytest

from tuning.outcome import Outcome
from tuning.results import Launch, SweepSummary, TrialRecord
from tuning.study import Study


def trial(number: int, outcome: Outcome | None, *scores: float) -> TrialRecord:
    curves = {
        "probe_agreement": dict(enumerate(scores, start=1)),
        "probe_kl": dict.fromkeys(range(1, len(scores) + 1), 0.25),
    }
    return TrialRecord(number=number, run_id=None, outcome=outcome, reason="", params={}, curves=curves)


@pytest.fixture
def launch() -> Launch:
    trials = [trial(4, Outcome.COMPLETED, 0.5, 0.75), trial(1, None, 0.6), trial(2, Outcome.PRUNED, 0.25)]
    return Launch(name="small-2", run_id=None, objective="probe_agreement", epochs=9, trials=trials)


class Cells(HTMLParser):
    """The rows of a fragment, each with whether it is marked; whether every tag is closed."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.rows: list[tuple[list[str], bool]] = []
        self.open: list[str] = []
        self.texts: list[str] = []
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.open.append(tag)
        if tag == "tr":
            self.rows.append(([], bool(attrs)))

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        (self.rows[-1][0] if self.open[-1] in ("td", "th") else self.texts).append(data)


def test_a_launch_is_its_leaderboard_the_chosen_first_and_the_choice_in_a_sentence(launch: Launch) -> None:
    shown = Cells(launch._repr_html_())
    assert shown.open == []
    assert shown.rows == [
        (["trial", "outcome", "epochs", "probe agreement", "probe KL", "test accuracy"], False),
        (["4", "completed", "2", "75.00 %", "0.2500", "-"], True),
        (["1", "running", "1", "60.00 %", "0.2500", "-"], False),
        (["2", "pruned", "1", "25.00 %", "0.2500", "-"], False),
    ]
    choice = "chosen without a real image: trial 4 at epoch 2, probe_agreement 75.00 %, probe KL 0.2500"
    assert shown.texts == ["small-2: the best 3 of 3 trials", choice]


def test_names_are_shown_as_text(launch: Launch) -> None:
    name = "<script>alert(1)</script>&"
    text = replace(launch, name=name)._repr_html_()
    assert "<script>" not in text
    assert "&lt;script&gt;alert(1)&lt;/script&gt;&amp;: the best 3 of 3 trials" in text


def test_a_launch_without_a_result_says_so(launch: Launch) -> None:
    shown = Cells(replace(launch, trials=[trial(0, Outcome.DIVERGED)])._repr_html_())
    assert shown.texts[-1] == "no trial has a result"
    assert not any(is_marked for _, is_marked in shown.rows)


def test_a_sweep_says_where_its_student_is_and_what_it_took(launch: Launch, small: Study) -> None:
    summary = SweepSummary(
        study=small,
        launch=launch,
        model_uri="models:/small@champion",
        num_undelivered=0,
        elapsed_s=10.0,
        tracking_share=0.1,
        earlier_s=5.0,
    )
    assert Cells(summary._repr_html_()).texts[-2:] == [
        "the sweep took 15 s",
        "the chosen student is registered as models:/small@champion",
    ]
    assert Cells(replace(summary, model_uri=None)._repr_html_()).texts[-1] == "no student is registered"


@pytest.fixture
def small(raw: dict[str, object]) -> Study:
    from tuning.study.config import resolve_study

    return resolve_study(raw)
