"""Launches side by side, in one table and on one page with shared axes."""

import itertools
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import plotly.graph_objects as go
from rich import box
from rich.markup import escape
from rich.table import Table

from tuning.display import percent
from tuning.launch.events import LATENCY
from tuning.outcome import Outcome
from tuning.report.console import short_value
from tuning.report.launch_page import HOUR_S
from tuning.report.page import NOTHING, Cell, Chart, Page, PageTable, Section, escaped, spread_in_words, write_page
from tuning.report.palette import SERIES, colour
from tuning.report.tooltips import tooltip
from tuning.report.traces import LAYOUT, TOLD
from tuning.results import Launch
from tuning.results.trial_record import number_in

HEADINGS = (
    "launch",
    "trials",
    "completed",
    "pruned",
    "running",
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
    """One row per launch, with the keys `HEADINGS`; None where nothing was measured."""
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
        launch.count(None),
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
    return _markdown(HEADINGS, [_texts(row) for row in comparison_rows(launches)])


def differences_of_launches(launches: Sequence[Launch]) -> Table:
    """What differs between the launches, one row per parameter, as a table in Markdown."""
    return _markdown(
        ["parameter", *(launch.name for launch in launches)], [[name, *texts] for name, texts in differences(launches).items()]
    )


def _markdown(headings: Sequence[str], rows: Sequence[Sequence[str]]) -> Table:
    table = Table(box=box.MARKDOWN)
    for place, heading in enumerate(headings):
        table.add_column(escape(heading), justify="right" if place else "left")
    for row in rows:
        table.add_row(*map(escape, row))
    return table


def differences(launches: Sequence[Launch]) -> dict[str, list[str]]:
    """The parameters and settings in which the launches differ, by name, with each launch's value; a dash if it has none.

    The launches' settings come first, as ``launch: sampler``; then the parameters that their chosen trials ran with.
    """
    settings = _differing([_settings(launch) for launch in launches])
    parameters = _differing([launch.chosen.params if launch.chosen else {} for launch in launches])
    return {f"launch: {name}": texts for name, texts in settings.items()} | {
        name: texts for name, texts in parameters.items() if name not in settings
    }


def _settings(launch: Launch) -> Mapping[str, str]:
    """The launch's settings, without figures that were measured on its machine."""
    return {name: text for name, text in launch.settings.items() if not name.startswith(LATENCY)}


def _differing(sides: Sequence[Mapping[str, str]]) -> dict[str, list[str]]:
    names = dict.fromkeys(name for side in sides for name in side)
    texts = {name: [short_value(side[name]) if name in side else NOTHING for side in sides] for name in names}
    return {name: found for name, found in texts.items() if len({side.get(name) for side in sides}) > 1}


def _texts(row: dict[str, Any]) -> list[str]:
    return [_text(heading, value) for heading, value in row.items()]


def _text(heading: str, value: Any) -> str:
    if value is None:
        return NOTHING
    if heading in ("probe agreement", "test accuracy", "regret"):
        return percent(value)
    return f"{value:.3f}" if isinstance(value, float) else str(value)


def write_comparison(path: Path, launches: Sequence[Launch]) -> None:
    """Write the page atomically."""
    write_page(
        path,
        Page(
            title=" against ".join(launch.name for launch in launches),
            subtitle=f"{len(launches)} launches",
            lead=_lead(launches),
            sections=[
                Section(title="Side by side", hint="Each launch is represented by its chosen trial.", table=_table(launches)),
                *_differences(launches),
                Section(
                    title="Best so far",
                    hint="The best value of each launch's objective so far, against the epochs run by all its trials.",
                    charts=[_steps(launches)],
                ),
                *_chosen_curves(launches),
                Section(title="All trials' results", charts=[_boxes(launches)]),
            ],
            tooltips={
                f"{place}:{trial.number}": f"{escaped(launch.name)}<br>{tooltip(trial, launch, list(trial.point))}"
                for place, launch in enumerate(launches)
                for trial in launch.trials
            },
        ),
    )


def _table(launches: Sequence[Launch]) -> PageTable:
    rows = comparison_rows(launches)
    return PageTable(HEADINGS, [[Cell(_text(heading, value), value) for heading, value in row.items()] for row in rows])


def _lead(launches: Sequence[Launch]) -> list[tuple[str, str]]:
    """Which launch is ahead, by which metric, and in how many settings they differ."""
    metric = _common_metric(launches)
    found = {launch.name: _chosen_value(launch, metric) for launch in launches}
    known = {name: value for name, value in found.items() if value is not None}
    words = metric.replace("_", " ")
    told = "; ".join(f"{name} {percent(value)}" for name, value in sorted(known.items(), key=lambda item: -item[1]))
    ahead = f"by {words} of the chosen trials: {told}." if told else "no launch has chosen a trial yet."
    running = ", ".join(launch.name for launch in launches if not launch.is_over)
    under_way = f" Still under way: {running}." if running else ""
    number = len(differences(launches))
    what = "setting or parameter" if number == 1 else "settings and parameters of the chosen trials"
    differ = f"{number} {what}." if number else "none of the settings and parameters."
    return [
        ("Ahead", ahead + under_way),
        ("They differ in", differ),
        ("How sure", "with one launch each, a difference may be luck: the results of other seeds are not known."),
    ]


def _common_metric(launches: Sequence[Launch]) -> str:
    """The metric that compares all launches: test accuracy if all have it, else agreement on the probe set."""
    return "test_accuracy" if all(launch.accuracy_metric == "test_accuracy" for launch in launches) else "probe_agreement"


def _chosen_value(launch: Launch, metric: str) -> float | None:
    return launch.chosen.at_best(metric, launch.objective) if launch.chosen else None


def _differences(launches: Sequence[Launch]) -> list[Section]:
    found = differences(launches)
    hint = (
        "Settings of the launches and parameters of their chosen trials, where they differ."
        if found
        else "The launches have the same settings, and their chosen trials the same parameters."
    )
    rows = [[Cell(name), *(Cell(text, number_in(text)) for text in texts)] for name, texts in found.items()]
    table = PageTable(["parameter", *(launch.name for launch in launches)], rows) if rows else None
    return [Section(title="What differs", hint=hint, table=table)]


def best_so_far(launch: Launch) -> list[tuple[float, float]]:
    """(epochs run by all trials, best objective) after each result, in the order in which results arrived."""
    results = sorted(
        (trial.course.reported.get(epoch, 0.0), trial.number, epoch, value)
        for trial in launch.trials
        for epoch, value in trial.curves.get(launch.objective, {}).items()
    )
    values = itertools.accumulate((value for *_, value in results), max)
    return [(float(spent), value) for spent, value in enumerate(values, start=1)]


def _steps(launches: Sequence[Launch]) -> Chart:
    courses = [best_so_far(launch) for launch in launches]
    figure = _lines(launches, courses, "epochs of all trials", "best so far", shape="hv")
    ends = "; ".join(
        f"{launch.name} {percent(course[-1][1])} after {len(course)} epochs" if course else f"{launch.name} no result yet"
        for launch, course in zip(launches, courses, strict=True)
    )
    return Chart(figure, f"{ends}.")


def _chosen_curves(launches: Sequence[Launch]) -> list[Section]:
    sections = []
    for metric in ("probe_agreement", "test_accuracy"):
        curves = [_chosen_curve(launch, metric) for launch in launches]
        if any(curves):
            words = metric.replace("_", " ")
            ends = [f"{launch.name} {percent(curve[-1][1])}" for launch, curve in zip(launches, curves, strict=True) if curve]
            chart = Chart(_lines(launches, curves, "epoch", words), f"At the last epoch: {'; '.join(ends)}.")
            sections.append(Section(title=f"The chosen trials: {words}", charts=[chart]))
    return sections


def _chosen_curve(launch: Launch, metric: str) -> list[tuple[float, float]]:
    curve = launch.chosen.curves.get(metric, {}) if launch.chosen else {}
    return [(float(epoch), curve[epoch]) for epoch in sorted(curve)]


def _lines(
    launches: Sequence[Launch], curves: Sequence[Sequence[tuple[float, float]]], x: str, y: str, *, shape: str = "linear"
) -> go.Figure:
    figure = go.Figure(layout=LAYOUT)
    for launch, curve, role in zip(launches, curves, itertools.cycle(SERIES), strict=False):
        figure.add_trace(
            go.Scatter(
                x=[place for place, _ in curve],
                y=[value for _, value in curve],
                name=escaped(launch.name),
                mode="lines",
                line={"color": colour(role), "shape": shape, "width": 2},
                hovertemplate=f"{escaped(launch.name)}<br>%{{x}}: %{{y:.2%}}<extra></extra>",
            )
        )
    figure.update_layout(xaxis_title=x, yaxis_title=y, showlegend=True)
    figure.update_yaxes(tickformat=".0%")
    return figure


def _boxes(launches: Sequence[Launch]) -> Chart:
    figure = go.Figure(layout=LAYOUT | {"showlegend": False})
    told = []
    for place, (launch, role) in enumerate(zip(launches, itertools.cycle(SERIES), strict=False)):
        metric = launch.accuracy_metric
        found = [(value, trial.number) for trial in launch.trials if (value := trial.at_best(metric, launch.objective)) is not None]
        name = f"{launch.name}, {metric.replace('_', ' ')}"
        figure.add_trace(
            go.Box(
                y=[value for value, _ in found],
                customdata=[f"{place}:{number}" for _, number in found],
                hovertemplate=TOLD,
                hoveron="points",
                name=escaped(name),
                boxpoints="all",
                marker={"color": colour(role)},
            )
        )
        told.append(f"{name}: {spread_in_words([value for value, _ in found], 'trial')}")
    figure.update_yaxes(tickformat=".0%")
    return Chart(figure, f"{'; '.join(told)}.")
