"""Launches side by side: one table, and one page on which they share their axes."""

import itertools
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import plotly.graph_objects as go
from rich import box
from rich.table import Table

from tuning.display import percent
from tuning.outcome import Outcome
from tuning.report.figures import LAYOUT
from tuning.report.launch_page import HOUR_S
from tuning.report.page import PageTable, Section, write_page
from tuning.results import Launch

LAUNCH_COLOURS = ("#2a78b8", "#d1490c", "#3a9d5d", "#8d6cab", "#b08a1e", "#5b6770")
HEADINGS = (
    "launch",
    "trials",
    "completed",
    "pruned",
    "epochs",
    "hours",
    "chosen",
    "probe agreement",
    "probe KL",
    "test accuracy",
    "regret",
    "rank correlation",
)


def comparison_rows(launches: Sequence[Launch]) -> list[dict[str, Any]]:
    """A row a launch, with the keys `HEADINGS`; None where nothing was measured."""
    return [_row(launch) for launch in launches]


def _row(launch: Launch) -> dict[str, Any]:
    chosen = launch.chosen
    at_best = {
        name: chosen.at_best(name, launch.objective) if chosen else None
        for name in ("probe_agreement", "probe_kl", "test_accuracy")
    }
    values = (
        launch.name,
        len(launch.trials),
        launch.count(Outcome.COMPLETED),
        launch.count(Outcome.PRUNED),
        launch.epochs_run,
        sum(trial.seconds for trial in launch.trials) / HOUR_S,
        None if chosen is None else chosen.number,
        *at_best.values(),
        launch.regret(),
        launch.rank_correlation(),
    )
    return dict(zip(HEADINGS, values, strict=True))


def comparison_of_launches(launches: Sequence[Launch]) -> Table:
    """The rows as a table in Markdown."""
    table = Table(box=box.MARKDOWN)
    for heading in HEADINGS:
        table.add_column(heading, justify="left" if heading == "launch" else "right")
    for row in comparison_rows(launches):
        table.add_row(*_cells(row))
    return table


def _cells(row: dict[str, Any]) -> list[str]:
    return [_cell(heading, value) for heading, value in row.items()]


def _cell(heading: str, value: Any) -> str:
    if value is None:
        return "-"
    if heading in ("probe agreement", "test accuracy", "regret"):
        return percent(value)
    return f"{value:.3f}" if isinstance(value, float) else str(value)


def write_comparison(path: Path, launches: Sequence[Launch]) -> None:
    """Write the page whole or not at all."""
    table = PageTable(headings=HEADINGS, rows=[_cells(row) for row in comparison_rows(launches)])
    agreement, accuracy = "probe_agreement", "test_accuracy"
    sections = [
        Section(title="Side by side", hint="Each launch by the trial that it has chosen.", table=table),
        Section(
            title="Best so far",
            hint="The best value of each launch's objective after so many epochs of all its trials, in the order of results.",
            figure=_lines({launch.name: best_so_far(launch) for launch in launches}, "epochs of all trials", "best so far"),
        ),
    ]
    for metric in (agreement, accuracy):
        curves = {launch.name: _chosen_curve(launch, metric) for launch in launches}
        if any(curves.values()):
            words = metric.replace("_", " ")
            sections.append(Section(title=f"The chosen trials: {words}", figure=_lines(curves, "epoch", words)))
    sections.append(Section(title="All trials' results", figure=_boxes(launches)))
    title = " against ".join(launch.name for launch in launches)
    write_page(path, title=title, subtitle=f"{len(launches)} launches", sections=sections)


def best_so_far(launch: Launch) -> list[tuple[float, float]]:
    """(epochs spent over all trials, best objective) after each result, in the order in which results came."""
    results = sorted(
        (trial.course.reported.get(epoch, 0.0), trial.number, epoch, value)
        for trial in launch.trials
        for epoch, value in trial.curves.get(launch.objective, {}).items()
    )
    values = itertools.accumulate((value for *_, value in results), max)
    return [(float(spent), value) for spent, value in enumerate(values, start=1)]


def _chosen_curve(launch: Launch, metric: str) -> list[tuple[float, float]]:
    curve = launch.chosen.curves.get(metric, {}) if launch.chosen else {}
    return [(float(epoch), curve[epoch]) for epoch in sorted(curve)]


def _lines(curves: dict[str, list[tuple[float, float]]], x: str, y: str) -> go.Figure:
    figure = go.Figure(layout=LAYOUT)
    for (name, points), colour in zip(curves.items(), itertools.cycle(LAUNCH_COLOURS), strict=False):
        figure.add_trace(
            go.Scatter(
                x=[point[0] for point in points], y=[point[1] for point in points], name=name, mode="lines", line={"color": colour}
            )
        )
    figure.update_layout(xaxis_title=x, yaxis_title=y, legend={"orientation": "h", "y": 1.12}, showlegend=True)
    figure.update_yaxes(tickformat=".0%")
    return figure


def _boxes(launches: Sequence[Launch]) -> go.Figure:
    figure = go.Figure(layout=LAYOUT)
    for launch, colour in zip(launches, itertools.cycle(LAUNCH_COLOURS), strict=False):
        metric = launch.accuracy_metric
        found = [
            (value, f"trial {trial.number}")
            for trial in launch.trials
            if (value := trial.at_best(metric, launch.objective)) is not None
        ]
        figure.add_trace(
            go.Box(
                y=[value for value, _ in found],
                text=[label for _, label in found],
                name=f"{launch.name}, {metric.replace('_', ' ')}",
                boxpoints="all",
                marker={"color": colour},
            )
        )
    figure.update_layout(showlegend=False)
    figure.update_yaxes(tickformat=".0%")
    return figure
