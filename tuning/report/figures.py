"""The launch's charts: its history, every trial's curve, the blind choice, accuracy against cost, who ran where and when."""

import itertools
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime

import plotly.graph_objects as go
from plotly.subplots import make_subplots

from tuning.display import percent
from tuning.outcome import RUNNING, Outcome
from tuning.report.page import Chart, escaped, spread_in_words
from tuning.report.palette import CHOSEN, colour
from tuning.report.traces import LAYOUT, ORDER, TOLD, by_role, marker, points, role_of
from tuning.results import Launch, TrialRecord
from tuning.results.front import COSTS, FrontStudent

CROWD = 30
"""Number of trials from which on completed ones are drawn lightly, too."""
FADED, LIGHT = 0.75, 0.5
"""Opacity of a trial that did not run to its end, and of one in a crowd."""
COLUMN_WIDTH = 220
"""Width of the column of a cost, in pixels."""


def history(launch: Launch) -> Chart:
    """Each trial's result by its number, and the best of the search so far as a step line."""
    figure = go.Figure(layout=LAYOUT)
    found = {trial.number: score for trial in launch.trials if (score := _score(trial, launch)) is not None}
    steps = _best_so_far(launch)
    figure.add_trace(
        go.Scatter(
            x=[number for number, _ in steps],
            y=[best for _, best in steps],
            mode="lines",
            name="best so far",
            line={"shape": "hv", "color": colour(CHOSEN), "width": 2},
            hoverinfo="skip",
        )
    )
    for role, trials in by_role([trial for trial in launch.trials if trial.number in found], launch).items():
        figure.add_trace(points(trials, [t.number for t in trials], [found[t.number] for t in trials], role))
    figure.update_layout(xaxis_title="trial", yaxis_title=_words(launch.objective))
    figure.update_yaxes(tickformat=".0%")
    return Chart(figure, f"{_held_since(steps)}; {spread_in_words(list(found.values()), 'result')}.")


def _best_so_far(launch: Launch) -> list[tuple[int, float]]:
    """(number, best score of the search's trials up to it), skipping trials without a result; the last one extends it."""
    numbered = sorted(launch.searched, key=lambda trial: trial.number)
    scored = [(trial.number, score) for trial in numbered if (score := _score(trial, launch)) is not None]
    bests = itertools.accumulate((score for _, score in scored), max)
    steps = [(number, best) for (number, _), best in zip(scored, bests, strict=True)]
    return [*steps, (numbered[-1].number, steps[-1][1])] if steps else []


def _held_since(steps: Sequence[tuple[int, float]]) -> str:
    best = steps[-1][1]
    return f"The best so far, {percent(best)}, was reached by trial {next(number for number, value in steps if value == best)}"


def learning_curves(launch: Launch, metric: str, rungs: Sequence[int] = ()) -> Chart:
    """`metric` of every trial over epochs: each curve ends in a mark for its outcome, the chosen one on top; `rungs` are marked."""
    figure = go.Figure(layout=LAYOUT)
    shown = [trial for trial in launch.trials if trial.curves.get(metric)]
    named = set()
    for role, trials in by_role(shown, launch).items():
        for trial in trials:
            figure.add_trace(_curve(trial, launch, metric, is_named=role not in named))
            named.add(role)
    for rung in rungs:
        line = {"dash": "dot", "width": 1, "color": colour("muted")}
        figure.add_vline(rung, line=line, annotation={"text": "rung", "font": {"size": 10, "color": colour("muted")}})
    figure.update_layout(xaxis_title="epoch", yaxis_title=_words(metric), legend={"groupclick": "togglegroup"}, showlegend=True)
    figure.update_yaxes(tickformat=".0%")
    return Chart(figure, _curves_in_words(shown, launch, metric, rungs))


def _curve(trial: TrialRecord, launch: Launch, metric: str, *, is_named: bool) -> go.Scatter:
    curve, role = trial.curves[metric], role_of(trial, launch)
    epochs = sorted(curve)
    marked = trial.best_epoch(launch.objective) if role == CHOSEN else epochs[-1]
    is_whole = role == Outcome.COMPLETED.value
    sizes = [0 if is_whole or epoch != marked else 13 if role == CHOSEN else 7 for epoch in epochs]
    is_lone = len(epochs) == 1 and is_whole
    is_crowd = len(launch.trials) >= CROWD
    return go.Scatter(
        x=epochs,
        y=[curve[epoch] for epoch in epochs],
        customdata=[trial.number] * len(epochs),
        hovertemplate="epoch %{x}: %{y:.2%}<br>" + TOLD,
        mode="lines+markers",
        name=role,
        legendgroup=role,
        showlegend=is_named,
        opacity=1 if role in (CHOSEN, RUNNING) else LIGHT if is_crowd else 1 if is_whole else FADED,
        line={"color": colour(role), "width": 3 if role == CHOSEN else 1.5},
        marker=marker(role) | {"size": [6] if is_lone else sizes},
    )


def _curves_in_words(trials: Sequence[TrialRecord], launch: Launch, metric: str, rungs: Sequence[int]) -> str:
    last = [trial.curves[metric][max(trial.curves[metric])] for trial in trials]
    words = [f"{len(trials)} curve{'' if len(trials) == 1 else 's'}", f"at their last epochs: {spread_in_words(last, 'value')}"]
    if launch.chosen and (curve := launch.chosen.curves.get(metric)):
        first, end = curve[min(curve)], curve[max(curve)]
        words.append(f"the chosen trial {launch.chosen.number} goes from {percent(first)} to {percent(end)}")
    if rungs:
        words.append(f"rungs after epoch{'' if len(rungs) == 1 else 's'} {', '.join(map(str, rungs))}")
    return f"{'; '.join(words)}."


def blind_choice(launch: Launch) -> Chart:
    """The blind score against test accuracy: small points are epochs, large ones the trials' results, the chosen one marked."""
    figure = go.Figure(layout=LAYOUT)
    pairs = launch.agreements_and_accuracies()
    figure.add_trace(
        go.Scatter(
            x=[blind for blind, _ in pairs],
            y=[accuracy for _, accuracy in pairs],
            mode="markers",
            name="every epoch",
            marker={"size": 4, "color": colour("muted"), "opacity": LIGHT},
            hoverinfo="skip",
        )
    )
    results = {
        trial.number: (x, y)
        for trial in launch.trials
        if (x := _blind(trial, launch)) is not None and (y := _accuracy(trial, launch)) is not None
    }
    for role, trials in by_role([trial for trial in launch.trials if trial.number in results], launch).items():
        scores, accuracies = zip(*(results[trial.number] for trial in trials), strict=True)
        figure.add_trace(points(trials, scores, accuracies, role))
    figure.update_layout(xaxis_title=_words(launch.blind_metric), yaxis_title="test accuracy")
    figure.update_xaxes(tickformat=".0%")
    figure.update_yaxes(tickformat=".0%")
    return Chart(figure, _choice_in_words(launch, [accuracy for _, accuracy in results.values()]))


def _choice_in_words(launch: Launch, accuracies: Sequence[float]) -> str:
    correlation, regret = launch.rank_correlation(), launch.regret()
    words = f"Test accuracy of the trials' results: {spread_in_words(accuracies, 'trial')}"
    if correlation is not None:
        words += f"; rank correlation over {len(launch.agreements_and_accuracies())} trial-epochs {correlation:.3f}"
    if regret is not None:
        words += f"; the chosen trial lies {100 * regret:.2f} points below the best"
    return words + "."


def fronts(students: Sequence[FrontStudent], objective: str) -> Chart:
    """The score of each architecture's best student against each of its costs, with a line along the Pareto front."""
    shown = [cost for cost in COSTS if any(cost in student.costs for student in students)]
    figure = make_subplots(cols=len(shown), shared_yaxes=True, horizontal_spacing=0.03)
    for column, cost in enumerate(shown, start=1):
        placed = [student for student in students if cost in student.costs]
        front = sorted((student for student in placed if cost in student.on), key=lambda student: student.costs[cost])
        figure.add_trace(_front_line(front, cost), row=1, col=column)
        figure.add_trace(_front_points(placed, cost), row=1, col=column)
        figure.update_xaxes(title=COSTS[cost], type="log", row=1, col=column)
    figure.update_layout(LAYOUT | {"showlegend": False})
    figure.update_yaxes(tickformat=".0%")
    figure.update_yaxes(title=_words(objective), row=1, col=1)
    scores = ", ".join(f"{student.arch} {percent(student.score)}" for student in students)
    return Chart(figure, f"Best student of each architecture, cheapest first: {scores}.", min_width=COLUMN_WIDTH * len(shown))


def _front_line(front: Sequence[FrontStudent], cost: str) -> go.Scatter:
    return go.Scatter(
        x=[student.costs[cost] for student in front],
        y=[student.score for student in front],
        mode="lines",
        line={"color": colour(CHOSEN), "shape": "hv", "width": 1.5},
        hoverinfo="skip",
    )


def _front_points(placed: Sequence[FrontStudent], cost: str) -> go.Scatter:
    return go.Scatter(
        x=[student.costs[cost] for student in placed],
        y=[student.score for student in placed],
        text=[escaped(student.arch) for student in placed],
        customdata=[student.trial.number for student in placed],
        hovertemplate="%{text}: %{y:.2%} at %{x:.4s}<br>" + TOLD,
        mode="markers+text",
        textposition="bottom right",
        textfont={"size": 10},
        cliponaxis=False,
        marker={"size": 9, "color": [colour(CHOSEN if cost in student.on else "muted") for student in placed]},
    )


def timeline(launch: Launch) -> Chart:
    """When and where each trial ran: a bar from its start to its end in a lane of its node; retries and failures are marked."""
    figure = go.Figure(layout=LAYOUT)
    lanes = assign_lanes(launch.trials)
    for ending in reversed(ORDER):
        trials = [trial for trial in launch.trials if trial.number in lanes and trial.state == ending]
        if trials:
            figure.add_trace(_bars(trials, lanes, ending))
    for name, symbol, moments in (
        (
            "failed or diverged",
            "x",
            [(t, t.course.ended) for t in launch.trials if t.outcome in (Outcome.FAILED, Outcome.DIVERGED)],
        ),
        ("retried", "triangle-right", [(trial, moment) for trial in launch.trials for moment in trial.course.retried]),
    ):
        marks = [(lanes[trial.number], moment, trial.number) for trial, moment in moments if moment and trial.number in lanes]
        if marks:
            figure.add_trace(_marks(marks, name, symbol))
    figure.update_layout(barmode="overlay", xaxis_title="UTC", bargap=0.25, showlegend=True)
    figure.update_layout(height=max(220, 140 + 28 * len(set(lanes.values()))))
    figure.update_xaxes(type="date")
    figure.update_yaxes(categoryorder="category descending")
    return Chart(figure, _timeline_in_words(launch, lanes))


def _timeline_in_words(launch: Launch, lanes: Mapping[int, str]) -> str:
    placed = [trial for trial in launch.trials if trial.number in lanes]
    begun = min((trial.course.started for trial in placed if trial.course.started is not None), default=0.0)
    ended = max(map(_end_of, placed), default=begun)
    nodes = len({trial.course.node for trial in placed})
    return (
        f"{len(placed)} trials on {nodes} node{'' if nodes == 1 else 's'}, at most {len(set(lanes.values()))} at a time, "
        f"in {(ended - begun) / 60:.0f} minutes: {utc(begun):%Y-%m-%d %H:%M} to {utc(ended):%Y-%m-%d %H:%M} UTC."
    )


def assign_lanes(trials: Sequence[TrialRecord]) -> dict[int, str]:
    """A lane for each trial that has begun, by number. A node has as many lanes as it ran trials at the same time."""
    busy_until: dict[str, list[float]] = {}
    lanes = {}
    for trial in sorted(trials, key=lambda trial: (trial.course.started or 0.0, trial.number)):
        if trial.course.started is None:
            continue
        node = escaped(trial.course.node or "node unknown")
        ends = busy_until.setdefault(node, [])
        free = next((lane for lane, end in enumerate(ends) if end <= trial.course.started), len(ends))
        ends[free : free + 1] = [_end_of(trial)]
        lanes[trial.number] = f"{node}, {free + 1:02d}"
    return lanes


def _end_of(trial: TrialRecord) -> float:
    """When the trial ended, or last reported."""
    assert trial.course.started is not None
    return trial.course.ended or max(trial.course.reported.values(), default=trial.course.started)


def _bars(trials: Sequence[TrialRecord], lanes: Mapping[int, str], ending: str) -> go.Bar:
    starts = [trial.course.started or 0.0 for trial in trials]
    return go.Bar(
        y=[lanes[trial.number] for trial in trials],
        base=[utc(start) for start in starts],
        x=[1000 * (_end_of(trial) - start) for trial, start in zip(trials, starts, strict=True)],  # date axes count in ms
        text=[str(trial.number) for trial in trials],
        textfont={"color": colour("page")},
        textangle=0,
        textposition="inside",
        insidetextanchor="middle",
        customdata=[trial.number for trial in trials],
        hovertemplate=TOLD,
        orientation="h",
        name=ending,
        marker={"color": colour(ending), "line": {"color": colour("page"), "width": 1}},
    )


def _marks(marks: Sequence[tuple[str, float, int]], name: str, symbol: str) -> go.Scatter:
    return go.Scatter(
        x=[utc(moment) for _, moment, _ in marks],
        y=[lane for lane, _, _ in marks],
        text=[f"trial {number} {name}" for *_, number in marks],
        hoverinfo="text",
        mode="markers",
        name=name,
        marker={"symbol": symbol, "size": 9, "color": colour("text")},
    )


def utc(moment: float) -> datetime:
    """Convert `moment`, in seconds since 1970."""
    return datetime.fromtimestamp(moment, tz=UTC)


def _score(trial: TrialRecord, launch: Launch) -> float | None:
    return trial.at_best(launch.objective, launch.objective)


def _blind(trial: TrialRecord, launch: Launch) -> float | None:
    return trial.at_best(launch.blind_metric, launch.objective)


def _accuracy(trial: TrialRecord, launch: Launch) -> float | None:
    return trial.at_best("test_accuracy", launch.objective)


def _words(metric: str) -> str:
    return metric.replace("_", " ")
