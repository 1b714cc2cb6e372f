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
"""Rows of a table: fewer are seen at a glance."""
NOTHING = "-"


@dataclass(frozen=True)
class Chart:
    """A figure, and the same in words: what who does not see it is told. `min_width`: in pixels; a narrower page scrolls it."""

    figure: go.Figure
    words: str
    title: str = ""
    min_width: int = 0

    @property
    def height(self) -> int:
        """In pixels."""
        return int(self.figure.layout.height)


@dataclass(frozen=True)
class Cell:
    """A text in a table. `value`: what it is sorted by, default the text; `anchor`: of the row that it begins."""

    text: str
    value: float | str | None = None
    href: str = ""
    anchor: str = ""

    @property
    def is_words(self) -> bool:
        """Whether it is a sentence, which may be broken."""
        return self.text.count(" ") >= 4


@dataclass(frozen=True)
class PageTable:
    """Rows of cells under headings. `marked`: the row to emphasise; `choice`: the column by whose values to filter."""

    headings: Sequence[str]
    rows: Sequence[Sequence[Cell]]
    marked: int | None = None
    choice: int | None = None

    @classmethod
    def of_texts(cls, headings: Sequence[str], rows: Sequence[Sequence[str]], *, marked: int | None = None) -> "PageTable":
        """A table whose cells are sorted by the numbers that they begin with."""
        return cls(headings, [[Cell(text, _leading_number(text)) for text in row] for row in rows], marked=marked)

    @property
    def is_filtered(self) -> bool:
        """Whether there are more rows than are seen at a glance."""
        return len(self.rows) >= FILTERED_FROM

    @property
    def choices(self) -> list[str]:
        """The different texts of the column `choice`."""
        return [] if self.choice is None else list(dict.fromkeys(row[self.choice].text for row in self.rows))


@dataclass(frozen=True)
class Section:
    """A part of the page: its heading, a sentence on how to read it, and what it shows, in this order.

    `key`: the roles of `palette` whose colours and marks need a name.
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
    """`lead`: the whole of it in a paragraph, each part with a word on what it tells.

    `tooltips`: by key, what a chart's points say whose `customdata` names it.
    """

    title: str
    subtitle: str
    sections: Sequence[Section]
    lead: Sequence[tuple[str, str]] = ()
    tooltips: Mapping[str, str] = field(default_factory=dict)


def write_page(path: Path, page: Page) -> None:
    """Write the page whole or not at all."""
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
    figure["layout"].pop("template", None)  # all have the page's
    return _json({"data": figure["data"], "layout": figure["layout"]})


def _json(content: Any) -> Markup:
    """`content` for a script element, which nothing within it can end."""
    text = json.dumps(content, separators=(",", ":"), allow_nan=False)
    return Markup(text.replace("<", "\\u003c").replace(">", "\\u003e").replace("&", "\\u0026"))


def _data_uri(picture: Picture) -> str:
    return f"data:image/png;base64,{base64.b64encode(picture.content).decode()}"


def _coded(text: str) -> Markup:
    """`text` with what stands between backticks as code, and no line's end before a percent sign."""
    parts = text.replace(" %", "\N{NO-BREAK SPACE}%").split("`")
    return Markup("").join(Markup("<code>{}</code>").format(part) if place % 2 else part for place, part in enumerate(parts))


def _slug(title: str) -> str:
    return re.sub(r"[^a-z0-9]+", "-", title.lower()).strip("-")


def _symbol(role: str) -> str:
    return SYMBOLS[role][1]


def cells(row: Mapping[str, Any], columns: Sequence[str]) -> list[Cell]:
    """Those of `columns` for a person: shares in percent, a dash where there is nothing, *running* where it is not over."""
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
    """Whether `metric`, or a figure of it, is read in percent."""
    return (
        metric.startswith("accuracy_")
        or metric in ("test_accuracy", "exam_score", "probe_overlap")
        or metric.endswith("_agreement")
    )


def _leading_number(text: str) -> float | None:
    """The number that `text` begins with, its unit's letter counted; None where it is none."""
    found = re.match(r"(-?\d+(?:\.\d+)?(?:e[+-]?\d+)?)(?: ([kMG])\b)?", text)
    return float(found[1]) * {"k": 1e3, "M": 1e6, "G": 1e9}.get(found[2], 1.0) if found else None


def escaped(text: str) -> str:
    """`text` for a chart, whose texts take a few of HTML's elements."""
    return html.escape(text, quote=False)


def spread_in_words(values: Sequence[float], what: str) -> str:
    """Best, median and number of shares: a chart's main figures."""
    if not values:
        return f"no {what} yet"
    several = f", median {percent(statistics.median(values))}" if len(values) > 1 else ""
    return f"best {percent(max(values))}{several}, {len(values)} {what}{'s' if len(values) > 1 else ''}"
