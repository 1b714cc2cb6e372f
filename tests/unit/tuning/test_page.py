"""The page's parts, without a store: colours, links, the paragraph on top, what stands in a cell, scales."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from tests.support.page import ParsedPage
from tuning.outcome import Outcome
from tuning.report.links import ui_address
from tuning.report.overview import overview, values_at_edges
from tuning.report.page import Cell, Page, PageTable, Section, cells, write_page
from tuning.report.palette import PALETTE
from tuning.report.parameters import _ticks, parallel_coordinates, slices
from tuning.results import Launch, TrialRecord
from tuning.study import Study, load_study
from tuning.tracking.ui_view import LOCAL_UI

STUDY = Path(__file__).parents[3] / "search_spaces" / "digits.yaml"


@pytest.fixture(scope="module")
def study() -> Study:
    return load_study(STUDY, [])


def trial(
    number: int, *scores: float, outcome: Outcome | None = Outcome.COMPLETED, point: Mapping[str, Any] | None = None
) -> TrialRecord:
    return TrialRecord(
        number=number,
        run_id=f"run{number}",
        outcome=outcome,
        reason="",
        params={path: str(value) for path, value in (point or {}).items()} | {"student.arch": "wrn_10_1"},
        curves={"exam_score": dict(enumerate(scores, start=1)), "probe_kl": {}, "test_accuracy": {}},
        point=point or {},
    )


def launch(*trials: TrialRecord, **more: Any) -> Launch:
    settings = {"teacher.arch": "wrn_16_1"}
    return Launch(name="digits", run_id="parent", objective="exam_score", epochs=3, trials=trials, settings=settings, **more)


def contrast(one: str, other: str) -> float:
    """WCAG 2.2's ratio of the relative luminances of two colours."""
    high, low = sorted((luminance(one), luminance(other)), reverse=True)
    return (high + 0.05) / (low + 0.05)


def luminance(colour: str) -> float:
    shares = [int(colour[place : place + 2], 16) / 255 for place in (1, 3, 5)]
    linear = [share / 12.92 if share <= 0.04045 else ((share + 0.055) / 1.055) ** 2.4 for share in shares]
    return sum(weight * value for weight, value in zip((0.2126, 0.7152, 0.0722), linear, strict=True))


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_texts_and_marks_stand_out_in_both_schemes(scheme: str) -> None:
    shades = {role: getattr(colour, scheme) for role, colour in PALETTE.items()}
    for role in set(shades) - {"page", "raised", "line", "marked"}:
        assert contrast(shades[role], shades["page"]) >= 4.5, role
    for ground in ("raised", "marked"):
        for role in ("text", "link", "muted"):
            assert contrast(shades[role], shades[ground]) >= 4.5, (role, ground)


def test_no_two_roles_share_a_light_colour() -> None:
    """The dark one is found by it."""
    assert len({colour.light for colour in PALETTE.values()}) == len(PALETTE)


@pytest.mark.parametrize(
    ("uri", "address"),
    [
        ("sqlite:////tmp/mlflow.db", LOCAL_UI),
        ("postgresql+psycopg2://user:secret@host/db", LOCAL_UI),
        ("https://user:secret@mlflow.example.org/team/?token=secret", "https://mlflow.example.org/team"),
        ("http://127.0.0.1:5001", "http://127.0.0.1:5001"),
        ("databricks", ""),
        ("javascript://alert(1)", ""),
    ],
)
def test_a_runs_address_is_one_that_a_browser_opens_and_tells_no_secret(uri: str, address: str) -> None:
    assert ui_address(uri) == address


def test_the_paragraph_has_its_four_parts(study: Study) -> None:
    found = dict(overview(study, launch(trial(1, 0.5, 0.9), trial(0, 0.4, 0.6), trial(2, 0.1, outcome=Outcome.PRUNED))))
    assert list(found) == ["Searched", "Chosen", "How sure", "What next"]
    assert found["Searched"].startswith("9 parameters for distilling wrn_16_1 into wrn_10_1, by TPE with ASHA.")
    assert "3 trials: 2 completed, 1 pruned; 5 epochs run." in found["Searched"]
    assert found["Chosen"] == "without a real image, trial 1 at epoch 2, exam score 90.00 %."
    assert "is not recorded" in found["How sure"]
    assert "search.finalists={top: 3, seeds: 3}" in found["What next"]


def test_commands_in_the_paragraph_are_code_and_nothing_else_is(tmp_path: Path) -> None:
    write_page(tmp_path / "page.html", Page("A page", "", [], lead=[("Next", "try `<b> 5 %` and `more`; 6 %")]))
    page = ParsedPage((tmp_path / "page.html").read_text())
    assert [code.text for code in page.root.all("code")] == ["<b> 5\N{NO-BREAK SPACE}%", "more"]


def test_while_it_runs_the_paragraph_says_so_and_counts_what_there_is(study: Study) -> None:
    found = dict(overview(study, launch(trial(0, 0.5), trial(1, outcome=None), is_open=True)))
    assert list(found) == ["Searched", "Chosen so far", "How sure", "What next"]
    assert "2 trials so far: 1 completed, 1 running of 16 planned; 1 epoch run. The search is still under way." in found["Searched"]
    assert found["What next"] == "wait for 1 running trial, then make this page again."


def test_before_the_first_trial_nothing_is_claimed(study: Study) -> None:
    found = dict(overview(study, launch(is_open=True)))
    assert found["Chosen so far"] == "nothing yet; no trial has a result."
    assert "How sure" not in found
    assert "0 trials of 16 planned" in found["Searched"]


def test_troubles_come_first_and_an_edge_is_named(study: Study) -> None:
    bad = [trial(number, outcome=Outcome.DIVERGED) for number in (1, 2)]
    found = dict(overview(study, launch(trial(0, 0.5, point={"student.lr": 0.3, "weights.l2": 4.0}), *bad)))
    assert found["What next"].startswith("see under Troubles why 2 of 3 trials diverged or failed; widen the range of student.lr")


@pytest.mark.parametrize(("value", "is_at_edge"), [(0.05, True), (0.053, True), (0.1, False), (0.29, True), (5.0, False)])
def test_an_edge_is_a_twentieth_of_the_range_on_its_own_scale(value: float, is_at_edge: bool, study: Study) -> None:
    assert (values_at_edges(study, trial(0, 0.5, point={"student.lr": value})) == ["student.lr"]) == is_at_edge


def test_where_a_trial_runs_no_dash_stands_for_it() -> None:
    shown = cells(
        {"outcome": None, "ended": None, "exam_score": None, "probe_kl": 0.5}, ("outcome", "ended", "exam_score", "probe_kl")
    )
    assert [cell.text for cell in shown] == ["running", "running", "-", "0.5"]
    assert cells({"outcome": "failed", "ended": None}, ("ended",))[0].text == "-"


def test_texts_are_sorted_by_the_numbers_they_begin_with() -> None:
    table = PageTable.of_texts(["cost"], [["1.6 M"], ["400 k"], ["12.5 % ± 0.3"], ["-"], ["all"]])
    assert [row[0].value for row in table.rows] == [1.6e6, 4e5, 12.5, None, None]


def test_a_pages_strings_are_shown_as_text(tmp_path: Path) -> None:
    evil = '</script><img src="x" onerror="alert(1)">'
    table = PageTable([evil], [[Cell(evil, evil, anchor="a")]], choice=0)
    section = Section(title=evil, hint=evil, lines=[evil], table=table)
    write_page(tmp_path / "page.html", Page(evil, evil, [section], lead=[(evil, evil)], tooltips={"0": evil}))
    page = ParsedPage((tmp_path / "page.html").read_text())
    assert page.root.all("img") == []
    assert page.table(evil)[0][evil] == evil
    assert page.embedded("tooltips") == {"0": evil}


@pytest.mark.parametrize(
    ("lower", "upper", "ticks"),
    [
        (0.3, 3, [0.5, 1, 2]),
        (0.05, 0.5, [0.05, 0.1, 0.2, 0.5]),
        (1e-5, 1e-1, [1e-5, 1e-4, 1e-3, 1e-2, 1e-1]),
        (1, 20, [1, 2, 5, 10, 20]),
    ],
)
def test_a_logarithmic_axis_has_a_few_round_numbers(lower: float, upper: float, ticks: list[float]) -> None:
    assert _ticks(lower, upper) == pytest.approx(ticks)


def test_values_that_are_no_values_of_the_range_are_left_out(study: Study) -> None:
    """A store may hold anything."""
    strange = trial(0, 0.5, point={"student.lr": "fast", "weights.l2": -4.0, "generator.lr": 0.001})
    found = launch(strange)
    assert [chart.title for chart in slices(found, study.space)] == ["generator.lr"]
    chart = parallel_coordinates(found, study.space)
    assert chart is not None
    assert [value for value in chart.figure.data[0].y if value is not None] == pytest.approx([0.301, 0.0], abs=1e-3)
