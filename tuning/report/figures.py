"""The page's figures: curves, choice, timeline as Plotly draws them; importances, slices, parallel coordinates as Optuna does."""

import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from datetime import UTC, datetime

import optuna
import plotly.graph_objects as go
from optuna import visualization
from optuna.trial import TrialState
from plotly.subplots import make_subplots

from tuning.outcome import Outcome
from tuning.results import Launch, TrialRecord
from tuning.results.front import COSTS, FrontStudent

RUNNING = "running"
OUTCOME_COLOURS = {
    Outcome.COMPLETED.value: "#2a78b8",
    Outcome.PRUNED.value: "#9aa5b1",
    Outcome.DIVERGED.value: "#e08a1e",
    Outcome.FAILED.value: "#c8372d",
    Outcome.INTERRUPTED.value: "#8d6cab",
    RUNNING: "#3a9d5d",
}
CHOSEN_COLOUR = "#d1490c"
FADED = 0.35
CROWD = 30
"""From so many trials on, those that completed are drawn lightly too."""
MAX_SLICES = 12
"""Parameters in one figure of slices."""
SLICE_WIDTH, MIN_WIDTH = 230, 600
"""In pixels; a figure that is wider than the page is moved sideways."""
VALUE = "best value"
MIN_COMPARED = 2
LAYOUT = {"template": "plotly_white", "margin": {"l": 60, "r": 20, "t": 30, "b": 50}, "height": 420}


def learning_curves(launch: Launch, metric: str, rungs: Sequence[int] = ()) -> go.Figure:
    """`metric` of every trial over epochs: trials that did not run to their end faded, the chosen one in front, `rungs` marked."""
    figure = go.Figure(layout=LAYOUT)
    for trial in sorted(launch.trials, key=lambda trial: (trial is launch.chosen, trial.outcome is Outcome.COMPLETED)):
        curve = trial.curves.get(metric, {})
        if curve:
            figure.add_trace(_curve(trial, curve, is_chosen=trial is launch.chosen, is_crowd=len(launch.trials) >= CROWD))
    for rung in rungs:
        figure.add_vline(rung, line={"dash": "dot", "width": 1, "color": "#666"}, annotation_text="rung", annotation_font_size=10)
    figure.update_layout(xaxis_title="epoch", yaxis_title=metric.replace("_", " "), showlegend=False, hovermode="closest")
    figure.update_yaxes(tickformat=".0%")
    return figure


def _curve(trial: TrialRecord, curve: Mapping[int, float], *, is_chosen: bool, is_crowd: bool) -> go.Scatter:
    epochs = sorted(curve)
    is_faded = not is_chosen and (is_crowd or trial.outcome not in (Outcome.COMPLETED, None))
    return go.Scatter(
        x=epochs,
        y=[curve[epoch] for epoch in epochs],
        mode="lines+markers" if len(epochs) == 1 else "lines",
        name=f"trial {trial.number}{', chosen' if is_chosen else ''} ({_ending(trial)})",
        opacity=FADED if is_faded else 1,
        line={"color": CHOSEN_COLOUR if is_chosen else OUTCOME_COLOURS[_ending(trial)], "width": 3 if is_chosen else 1.2},
    )


def blind_choice(launch: Launch) -> go.Figure:
    """The blind score against test accuracy: every epoch of every trial small, each trial's result large, the chosen one marked."""
    figure = go.Figure(layout=LAYOUT)
    pairs = launch.agreements_and_accuracies()
    style = {"size": 4, "color": "#c9d1d9"}
    figure.add_trace(go.Scatter(x=_first(pairs), y=_second(pairs), mode="markers", marker=style, name="every epoch"))
    for is_chosen, name in ((False, "a trial's result"), (True, "the chosen trial")):
        results = [trial for trial in launch.trials if (trial is launch.chosen) == is_chosen]
        figure.add_trace(_results(results, launch, name, is_chosen=is_chosen))
    figure.update_layout(
        xaxis_title=launch.blind_metric.replace("_", " "), yaxis_title="test accuracy", legend={"orientation": "h", "y": 1.1}
    )
    figure.update_xaxes(tickformat=".0%")
    figure.update_yaxes(tickformat=".0%")
    return figure


def _results(trials: Sequence[TrialRecord], launch: Launch, name: str, *, is_chosen: bool) -> go.Scatter:
    found = [
        (x, y, f"trial {trial.number}")
        for trial in trials
        if (x := trial.at_best(launch.blind_metric, launch.objective)) is not None
        and (y := trial.at_best("test_accuracy", launch.objective)) is not None
    ]
    return go.Scatter(
        x=_first(found),
        y=_second(found),
        text=[label for *_, label in found],
        mode="markers",
        name=name,
        marker={"size": 14, "symbol": "star", "color": CHOSEN_COLOUR} if is_chosen else {"size": 8, "color": "#2a78b8"},
    )


def _first(rows: Sequence[tuple]) -> list[float]:  # type: ignore[type-arg]
    return [row[0] for row in rows]


def _second(rows: Sequence[tuple]) -> list[float]:  # type: ignore[type-arg]
    return [row[1] for row in rows]


def fronts(students: Sequence[FrontStudent], objective: str) -> go.Figure:
    """The score of each architecture's best student against each of its costs; a line along those on the front."""
    shown = [cost for cost in COSTS if any(cost in student.costs for student in students)]
    figure = make_subplots(cols=len(shown), shared_yaxes=True, horizontal_spacing=0.03)
    for column, cost in enumerate(shown, start=1):
        placed = [student for student in students if cost in student.costs]
        front = sorted((student for student in placed if cost in student.on), key=lambda student: student.costs[cost])
        line = {"color": CHOSEN_COLOUR, "shape": "hv", "width": 1.5}
        figure.add_trace(
            go.Scatter(x=[student.costs[cost] for student in front], y=_scores(front), mode="lines", line=line, hoverinfo="skip"),
            row=1,
            col=column,
        )
        colours = [CHOSEN_COLOUR if cost in student.on else OUTCOME_COLOURS[Outcome.PRUNED.value] for student in placed]
        figure.add_trace(
            go.Scatter(
                x=[student.costs[cost] for student in placed],
                y=_scores(placed),
                text=[student.arch for student in placed],
                customdata=[student.trial.number for student in placed],
                hovertemplate="%{text}, trial %{customdata}: %{y:.2%} at %{x:.4s}<extra></extra>",
                mode="markers+text",
                textposition="bottom right",
                textfont={"size": 10},
                cliponaxis=False,
                marker={"size": 9, "color": colours},
            ),
            row=1,
            col=column,
        )
        figure.update_xaxes(title=COSTS[cost], type="log", row=1, col=column)
    figure.update_layout(LAYOUT | {"showlegend": False})
    figure.update_yaxes(tickformat=".0%")
    figure.update_yaxes(title=objective.replace("_", " "), row=1, col=1)
    return figure


def _scores(students: Sequence[FrontStudent]) -> list[float]:
    return [student.score for student in students]


def timeline(launch: Launch) -> go.Figure:
    """When and where each trial ran: a bar from its start to its end in a lane of its node; retries and bad ends are marked."""
    figure = go.Figure(layout=LAYOUT)
    lanes = assign_lanes(launch.trials)
    for ending, colour in OUTCOME_COLOURS.items():
        trials = [trial for trial in launch.trials if trial.number in lanes and _ending(trial) == ending]
        if trials:
            figure.add_trace(_bars(trials, lanes, ending, colour))
    for name, symbol, moments in (
        ("pruned", "x-thin-open", [(t, t.course.ended) for t in launch.trials if t.outcome is Outcome.PRUNED]),
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
    figure.update_layout(barmode="overlay", xaxis_title="UTC", legend={"orientation": "h", "y": 1.1}, bargap=0.25)
    figure.update_layout(height=max(300, 140 + 28 * len(set(lanes.values()))))
    figure.update_xaxes(type="date")
    figure.update_yaxes(categoryorder="category descending", automargin=True)
    return figure


def assign_lanes(trials: Sequence[TrialRecord]) -> dict[int, str]:
    """For each trial that has begun, by number, a lane of its node: as many a node as trials ran on it at a time."""
    busy_until: dict[str, list[float]] = {}
    lanes = {}
    for trial in sorted(trials, key=lambda trial: (trial.course.started or 0.0, trial.number)):
        if trial.course.started is None:
            continue
        node = trial.course.node or "node unknown"
        ends = busy_until.setdefault(node, [])
        free = next((lane for lane, end in enumerate(ends) if end <= trial.course.started), len(ends))
        ends[free : free + 1] = [_end_of(trial)]
        lanes[trial.number] = f"{node}, {free + 1:02d}"
    return lanes


def _end_of(trial: TrialRecord) -> float:
    """When the trial ended, or was last heard of."""
    assert trial.course.started is not None
    return trial.course.ended or max(trial.course.reported.values(), default=trial.course.started)


def _bars(trials: Sequence[TrialRecord], lanes: Mapping[int, str], ending: str, colour: str) -> go.Bar:
    starts = [trial.course.started or 0.0 for trial in trials]
    return go.Bar(
        y=[lanes[trial.number] for trial in trials],
        base=[_utc(start) for start in starts],
        x=[1000 * (_end_of(trial) - start) for trial, start in zip(trials, starts, strict=True)],  # a date axis counts in ms
        text=[str(trial.number) for trial in trials],
        hovertext=[f"trial {trial.number}: {ending}, {trial.num_epochs} epochs {trial.reason}" for trial in trials],
        hoverinfo="text",
        orientation="h",
        name=ending,
        marker={"color": colour, "line": {"color": "white", "width": 1}},
    )


def _marks(marks: Sequence[tuple[str, float, int]], name: str, symbol: str) -> go.Scatter:
    return go.Scatter(
        x=[_utc(moment) for _, moment, _ in marks],
        y=[lane for lane, _, _ in marks],
        text=[f"trial {number} {name}" for *_, number in marks],
        hoverinfo="text",
        mode="markers",
        name=name,
        marker={"symbol": symbol, "size": 9, "color": "#222"},
    )


def _utc(moment: float) -> datetime:
    return datetime.fromtimestamp(moment, tz=UTC)


def searched(study: optuna.Study, paths: Sequence[str]) -> Iterator[tuple[str, go.Figure]]:
    """Optuna's own figures of what was searched, with titles; those that it cannot draw from these trials are left out."""
    figures: dict[str, Callable[[], go.Figure]] = {
        "Importances": lambda: visualization.plot_param_importances(study, target_name=VALUE),
        "Slices": lambda: visualization.plot_slice(study, params=list(paths[:MAX_SLICES]), target_name=VALUE),
        "Parallel coordinates": lambda: visualization.plot_parallel_coordinate(study, params=list(paths), target_name=VALUE),
    }
    if len(study.get_trials(deepcopy=False, states=[TrialState.COMPLETE])) < MIN_COMPARED:
        figures.pop("Importances")  # they would all be equal
    for title, draw in figures.items():
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")  # of trials that a figure passes over: the page says which it shows
                figure = draw()
        except (ValueError, RuntimeError):
            continue  # too few completed trials, or values that do not differ
        if figure.data:
            figure.update_layout(LAYOUT | {"title": None})
            if title == "Slices":
                figure.update_layout(width=max(MIN_WIDTH, SLICE_WIDTH * min(len(paths), MAX_SLICES)))
            yield title, figure


def _ending(trial: TrialRecord) -> str:
    return trial.outcome.value if trial.outcome else RUNNING
