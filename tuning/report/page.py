"""The page: one self-contained HTML file that opens offline, on any machine, and inside MLflow's own UI."""

import base64
import html
import json
import re
import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import plotly.graph_objects as go
from jinja2 import Environment, PackageLoader, StrictUndefined, select_autoescape
from markupsafe import Markup
from plotly.offline import get_plotlyjs

from cpsc.atomic_file import atomic_path
from tuning.display import percent
from tuning.outcome import RUNNING
from tuning.report.palette import SYMBOLS, custom_properties, dark_by_light, plotly_template
from tuning.report.pictures import Picture

TEMPLATE = "page.html.j2"
FILTERED_FROM = 8
"""Number of rows from which on a table gets a filter."""
NOTHING = "-"


@dataclass(frozen=True)
class Chart:
    """A figure, and the same in words for readers who cannot see it. `min_width`: in pixels; on a narrower page it scrolls."""

    figure: go.Figure
    words: str
    title: str = ""
    min_width: int = 0

    @property
    def height(self) -> int:
        """The figure's height in pixels."""
        return int(self.figure.layout.height)


@dataclass(frozen=True)
class Cell:
    """A text in a table. `value`: what it is sorted by, by default the text; `anchor`: ID of the row that it begins."""

    text: str
    value: float | str | None = None
    href: str = ""
    anchor: str = ""

    @property
    def is_words(self) -> bool:
        """Whether it is a sentence, which may wrap."""
        return self.text.count(" ") >= 4


@dataclass(frozen=True)
class PageTable:
    """Rows of cells under headings. `marked`: the row to emphasise; `choice`: the column whose values can be filtered by."""

    headings: Sequence[str]
    rows: Sequence[Sequence[Cell]]
    marked: int | None = None
    choice: int | None = None

    @classmethod
    def of_texts(cls, headings: Sequence[str], rows: Sequence[Sequence[str]], *, marked: int | None = None) -> "PageTable":
        """Make a table of texts, whose cells are sorted by the numbers that they begin with."""
        return cls(headings, [[Cell(text, _leading_number(text)) for text in row] for row in rows], marked=marked)

    @property
    def is_filtered(self) -> bool:
        """Whether the table has enough rows for a filter."""
        return len(self.rows) >= FILTERED_FROM

    @property
    def choices(self) -> list[str]:
        """The distinct texts of the column `choice`."""
        return [] if self.choice is None else list(dict.fromkeys(row[self.choice].text for row in self.rows))


@dataclass(frozen=True)
class Section:
    """A part of the page: its heading, a sentence on how to read it, and what it shows, in this order.

    `key`: the roles of `palette` whose colours and marks are explained.
    """

    title: str
    hint: str = ""
    lines: Sequence[str] = ()
    key: Sequence[str] = ()
    table: PageTable | None = None
    charts: Sequence[Chart] = ()
    pictures: Sequence[Picture] = ()


@dataclass(frozen=True)
class Page:
    """The content of a page. `lead`: a summary as one paragraph of labelled parts.

    `tooltips`: texts by key; a point of a chart shows the text whose key is its `customdata`.
    """

    title: str
    subtitle: str
    sections: Sequence[Section]
    lead: Sequence[tuple[str, str]] = ()
    tooltips: Mapping[str, str] = field(default_factory=dict)


def write_page(path: Path, page: Page) -> None:
    """Write the page atomically."""
    environment = Environment(
        loader=PackageLoader("tuning.report", "."), autoescape=select_autoescape(["html.j2"]), undefined=StrictUndefined
    )
    environment.filters |= {"figure": _drawn, "data_uri": _data_uri, "slug": _slug, "symbol": _symbol, "coded": _coded}
    text = environment.get_template(TEMPLATE).render(
        title=page.title,
        subtitle=page.subtitle,
        lead=page.lead,
        sections=page.sections,
        made=f"{datetime.now(tz=UTC):%Y-%m-%d %H:%M} UTC",
        properties={scheme: Markup(custom_properties(scheme)) for scheme in ("light", "dark")},
        embedded={
            "palette": _json(dark_by_light()),
            "template": _json(plotly_template()),
            "tooltips": _json(page.tooltips),
        },
        plotly=Markup(get_plotlyjs()),  # the library's own code
    )
    with atomic_path(path) as temporary:
        temporary.write_text(text, encoding="utf-8")


def _drawn(chart: Chart) -> Markup:
    figure = json.loads(chart.figure.to_json())
    figure["layout"].pop("template", None)  # all charts share the page's
    return _json({"data": figure["data"], "layout": figure["layout"]})


def _json(content: Any) -> Markup:
    """Encode `content` for a script element, so that nothing in it can end the element."""
    text = json.dumps(content, separators=(",", ":"), allow_nan=False)
    return Markup(text.replace("<", "\\u003c").replace(">", "\\u003e").replace("&", "\\u0026"))


def _data_uri(picture: Picture) -> str:
    return f"data:image/png;base64,{base64.b64encode(picture.content).decode()}"


def _coded(text: str) -> Markup:
    """Mark what stands between backticks in `text` as code, and keep numbers and percent signs on one line."""
    parts = text.replace(" %", "\N{NO-BREAK SPACE}%").split("`")
    return Markup("").join(Markup("<code>{}</code>").format(part) if place % 2 else part for place, part in enumerate(parts))


def _slug(title: str) -> str:
    return re.sub(r"[^a-z0-9]+", "-", title.lower()).strip("-")


def _symbol(role: str) -> str:
    return SYMBOLS[role][1]


def cells(row: Mapping[str, Any], columns: Sequence[str]) -> list[Cell]:
    """The values of `columns` as readable text: shares in percent, a dash for no value, *running* for a trial that is not over."""
    return [_cell(name, row) for name in columns]


def _cell(name: str, row: Mapping[str, Any]) -> Cell:
    value = row.get(name)
    if value is None:
        return Cell(RUNNING if name in ("outcome", "ended") and row.get("outcome") is None else NOTHING)
    if isinstance(value, datetime):
        return Cell(f"{value:%Y-%m-%d %H:%M:%S}")
    if is_share(name):
        return Cell(percent(value), value)
    return Cell(f"{value:.4g}", value) if isinstance(value, float) else Cell(str(value), value)


def is_share(metric: str) -> bool:
    """Whether `metric`, or a statistic of it, is shown in percent."""
    return (
        metric.startswith("accuracy_")
        or metric in ("test_accuracy", "exam_score", "probe_overlap")
        or metric.endswith("_agreement")
    )


def _leading_number(text: str) -> float | None:
    """The number that `text` begins with, multiplied by its unit's letter; None if it begins with none."""
    found = re.match(r"(-?\d+(?:\.\d+)?(?:e[+-]?\d+)?)(?: ([kMG])\b)?", text)
    return float(found[1]) * {"k": 1e3, "M": 1e6, "G": 1e9}.get(found[2], 1.0) if found else None


def escaped(text: str) -> str:
    """Escape `text` for a chart, because Plotly interprets some HTML elements."""
    return html.escape(text, quote=False)


def spread_in_words(values: Sequence[float], what: str) -> str:
    """The best, the median and the number of `values`, which are shares: a chart's main figures."""
    if not values:
        return f"no {what} yet"
    several = f", median {percent(statistics.median(values))}" if len(values) > 1 else ""
    return f"best {percent(max(values))}{several}, {len(values)} {what}{'s' if len(values) > 1 else ''}"
