"""What the page's script does, where a browser is installed: charts in both schemes, sorting, filtering, a page 400 pixels wide."""

import html
import json
import re
import shutil
import subprocess
from functools import cache
from pathlib import Path
from typing import Any

import plotly.graph_objects as go
import pytest

from tuning.report.page import Cell, Chart, Page, PageTable, Section, write_page
from tuning.report.palette import PALETTE, colour
from tuning.report.traces import LAYOUT, TOLD

CHROMIUM = next((path for name in ("chromium", "chromium-browser", "google-chrome") if (path := shutil.which(name))), None)
pytestmark = [pytest.mark.slow, pytest.mark.skipif(CHROMIUM is None, reason="no Chromium is installed")]
SCHEMES = {"light": "1", "dark": "0"}
"""Blink's numbers for them."""
NAMES = ["b-completed", "a-pruned", "c-completed", "running", *(f"more-{number}" for number in range(5))]
SCORES = [0.5, 0.25, 10.0, None, 1.0, 2.0, 3.0, 4.0, 5.0]
ACT = """
addEventListener("load", () => setTimeout(() => {
  const [table, tools, plot] = ["table", ".tools", ".plot"].map((wanted) => document.querySelector(wanted));
  const [input, select] = ["input", "select"].map((wanted) => tools.querySelector(wanted));
  const seen = () => [...table.tBodies[0].rows].filter((row) => !row.hidden).map((row) => row.cells[0].textContent.trim());
  const sort = () => { table.querySelectorAll("thead button")[2].click(); return seen(); };
  const entered = new Event("input", {bubbles: true});
  const filter = (element, text) => { element.value = text; element.dispatchEvent(entered); return seen(); };
  const found = {
    width: document.documentElement.scrollWidth,
    ground: getComputedStyle(document.body).backgroundColor,
    drawn: plot.querySelectorAll(".main-svg").length,
    mark: plot.data[0].marker.color,
    tick: plot.layout.template.layout.font.color,
    told: plot.data[0].hovertext,
    links: document.querySelectorAll("a.run[href]").length,
    sorted: [sort(), sort(), sort()],
    filtered: [filter(input, "COMPL b-"), filter(input, ""), filter(select, "pruned")],
    counted: tools.querySelector("output").value,
  };
  plot.emit("plotly_click", {points: [{customdata: 0}]});
  found.shown = seen();
  parent.postMessage(JSON.stringify(found), "*");
}, 500));
"""
FRAME = """<body><iframe src="page.html" style="width: 400px; height: 900px; border: 0"></iframe>
<script>addEventListener("message", (event) => { document.body.dataset.found = event.data; });</script>"""


def write_sample(path: Path) -> None:
    """A page with a wide table and a wide chart, whose script then acts as a reader does."""
    outcomes = ["completed", "pruned", "completed", "running", *["completed"] * 5]
    rows = [
        [
            Cell(name, href="http://127.0.0.1:5000/", anchor=f"trial-{number}"),
            Cell(outcome),
            Cell("-" if score is None else f"{score} %", score),
            *(Cell("a long cell " * 3) for _ in range(6)),
        ]
        for number, (name, outcome, score) in enumerate(zip(NAMES, outcomes, SCORES, strict=True))
    ]
    table = PageTable(["trial", "outcome", "score", *(f"parameter.{place}" for place in range(6))], rows, choice=1)
    figure = go.Figure(layout=LAYOUT)
    figure.add_trace(go.Scatter(x=[1, 2], y=[1, 2], customdata=[0, 1], hovertemplate=TOLD, marker={"color": colour("completed")}))
    chart = Chart(figure, "two points", min_width=900)
    page = Page("A page", "", [Section("Trials", table=table, charts=[chart])], tooltips={"0": "zero", "1": "one"})
    write_page(path / "page.html", page)
    text = (path / "page.html").read_text()
    (path / "page.html").write_text(text.replace("</body>", f"<script>{ACT}</script></body>"))
    (path / "frame.html").write_text(FRAME)


@pytest.fixture(scope="module")
def browse(tmp_path_factory: pytest.TempPathFactory) -> Any:
    """By scheme, what the script found."""
    folder = tmp_path_factory.mktemp("page")
    write_sample(folder)

    @cache
    def found(scheme: str) -> dict[str, Any]:
        options = ["--headless", "--no-sandbox", "--disable-gpu", "--allow-file-access-from-files", "--virtual-time-budget=8000"]
        options += [f"--user-data-dir={folder / scheme}", f"--blink-settings=preferredColorScheme={SCHEMES[scheme]}", "--dump-dom"]
        command = [str(CHROMIUM), *options, (folder / "frame.html").as_uri()]
        done = subprocess.run(command, capture_output=True, text=True, timeout=240, check=True)
        match = re.search(r'data-found="([^"]*)"', done.stdout)
        assert match, done.stdout[-2000:] + done.stderr[-2000:]
        return dict(json.loads(html.unescape(match[1])))

    return found


@pytest.mark.parametrize("scheme", SCHEMES)
def test_page_and_charts_follow_the_scheme(scheme: str, browse: Any) -> None:
    found, shade = browse(scheme), {role: getattr(shades, scheme) for role, shades in PALETTE.items()}
    rgb = tuple(int(shade["page"][place : place + 2], 16) for place in (1, 3, 5))
    assert found["ground"] == f"rgb{rgb}"
    assert found["drawn"] > 0
    assert (found["mark"], found["tick"]) == (shade["completed"], shade["text"])
    assert found["told"] == ["zero", "one"]


def test_nothing_is_wider_than_a_narrow_page(browse: Any) -> None:
    assert browse("light")["width"] <= 400


def test_a_click_sorts_and_what_was_not_measured_stays_behind(browse: Any) -> None:
    up, down, again = browse("light")["sorted"]
    assert up == ["a-pruned", "b-completed", *NAMES[4:], "c-completed", "running"]
    assert down == [*reversed(up[:-1]), "running"]
    assert again == NAMES


def test_words_and_a_choice_filter_and_a_click_on_a_point_shows_its_row(browse: Any) -> None:
    found = browse("light")
    assert found["filtered"] == [["b-completed"], NAMES, ["a-pruned"]]
    assert found["counted"] == "1 of 9 rows"
    assert found["shown"] == ["b-completed", "a-pruned"]


def test_in_a_frame_that_may_open_nothing_no_link_pretends_to(browse: Any) -> None:
    assert browse("light")["links"] == 0
