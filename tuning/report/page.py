"""The page: one self-contained HTML file that opens offline, on any machine, and inside MLflow's own UI."""

import base64
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import plotly.graph_objects as go
from jinja2 import Environment, PackageLoader, StrictUndefined, select_autoescape
from markupsafe import Markup
from plotly.offline import get_plotlyjs

from cpsc.atomic_file import atomic_path
from tuning.display import percent
from tuning.report.pictures import Picture

TEMPLATE = "page.html.j2"


@dataclass(frozen=True)
class Section:
    """A part of the page: its heading, a sentence on how to read it, and what it shows, in this order."""

    title: str
    hint: str = ""
    lines: Sequence[str] = ()
    table: "PageTable | None" = None
    figure: go.Figure | None = None
    pictures: Sequence[Picture] = ()


@dataclass(frozen=True)
class PageTable:
    """Rows of texts under headings. `marked`: the row to emphasise."""

    headings: Sequence[str]
    rows: Sequence[Sequence[str]]
    marked: int | None = None


def write_page(path: Path, *, title: str, subtitle: str, sections: Sequence[Section]) -> None:
    """Write the page whole or not at all."""
    environment = Environment(
        loader=PackageLoader("tuning.report", "."), autoescape=select_autoescape(["html.j2"]), undefined=StrictUndefined
    )
    environment.filters["figure"] = _drawn
    environment.filters["data_uri"] = _data_uri
    text = environment.get_template(TEMPLATE).render(
        title=title,
        subtitle=subtitle,
        made=f"{datetime.now(tz=UTC):%Y-%m-%d %H:%M} UTC",
        sections=sections,
        plotly=Markup(get_plotlyjs()),  # the library's own code
    )
    with atomic_path(path) as temporary:
        temporary.write_text(text, encoding="utf-8")


def _drawn(figure: go.Figure) -> Markup:
    options = {"displaylogo": False, "responsive": True}
    return Markup(figure.to_html(full_html=False, include_plotlyjs=False, config=options))


def _data_uri(picture: Picture) -> str:
    return f"data:image/png;base64,{base64.b64encode(picture.content).decode()}"


def texts(row: dict[str, Any], columns: Sequence[str]) -> list[str]:
    """The cells of `columns` as a person reads them: shares in percent, a dash where there is nothing."""
    return [_text(name, row.get(name)) for name in columns]


def _text(name: str, value: Any) -> str:
    if value is None:
        return "-"
    if name.startswith("accuracy_") or name in ("test_accuracy", "exam_score", "probe_overlap") or name.endswith("_agreement"):
        return percent(value)
    if isinstance(value, datetime):
        return f"{value:%Y-%m-%d %H:%M:%S}"
    return f"{value:.4g}" if isinstance(value, float) else str(value)
