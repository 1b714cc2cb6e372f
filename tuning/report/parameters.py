"""Effect of the searched parameters: importances as Optuna computes them, slices, and parallel coordinates of every trial."""

import math
import warnings
from collections.abc import Mapping, Sequence
from typing import Any

import optuna
import plotly.graph_objects as go

from tuning.display import percent
from tuning.outcome import Outcome
from tuning.report.optuna_study import as_study
from tuning.report.page import Chart, escaped
from tuning.report.palette import CHOSEN, colour
from tuning.report.traces import LAYOUT, TOLD, by_role, points
from tuning.results import Launch, TrialRecord
from tuning.search.optuna_space import to_optuna
from tuning.study.distributions import Distribution

MIN_COMPLETED, COMPLETED_EACH = 10, 2
"""Completed trials below which importances are chance: in total, and per parameter.

`tests.benchmarks.importances`: of nine parameters, fANOVA names the most important one first in 23 of 24 searches with 18 random
trials, in 15 of 24 with 10, and in 8 of 24 with 6; of four parameters, in 20 of 24 with 10.
"""
SLICE_HEIGHT, BAR_HEIGHT = 200, 26
"""Heights of a slice and of a bar, in pixels."""
AXIS_WIDTH = 92
"""Width per parameter in parallel coordinates, in pixels."""
MARGIN = 0.04
"""Share of an axis that is added beyond its range, so that a mark at its end is not cut off."""
MAX_TICKS = 5
"""Most ticks on a slice's logarithmic axis."""
BEST_SHARE = 0.25
"""Share of the completed trials, the best, whose lines stand out."""

FADED = 0.7
"""Opacity of the other lines."""

Space = Mapping[str, Distribution]


def completed_needed(space: Space) -> int:
    """How many trials must have run to their end before importances of `space` are meaningful."""
    return max(MIN_COMPLETED, COMPLETED_EACH * len(space))


def completed_in(launch: Launch) -> int:
    """Number of trials that show what their point is worth: those that ran to their end, and those that diverged."""
    return sum(trial.outcome in (Outcome.COMPLETED, Outcome.DIVERGED) for trial in launch.searched)


def importances(launch: Launch, space: Space) -> Chart | None:
    """A bar chart, most important first; None if all trials scored the same, or no parameter is in all of them."""
    found = _importances(as_study(launch, to_optuna(space)))
    if not found:
        return None
    names, shares = list(reversed(found)), list(reversed(found.values()))
    figure = go.Figure(layout=LAYOUT | {"height": 80 + BAR_HEIGHT * len(found)})
    figure.add_trace(
        go.Bar(
            x=shares,
            y=[escaped(name) for name in names],
            text=[f"{share:.2f}" for share in shares],
            textposition="outside",
            cliponaxis=False,
            orientation="h",
            hoverinfo="skip",
            marker={"color": colour(Outcome.COMPLETED.value)},
        )
    )
    figure.update_xaxes(title="share of the score's variance", range=[0, 1.12 * max(shares)])
    told = ", ".join(f"{name} {share:.2f}" for name, share in found.items())
    return Chart(figure, f"fANOVA over {completed_in(launch)} completed trials: {told}.")


def _importances(study: optuna.Study) -> dict[str, float]:
    from optuna import importance  # loads scikit-learn, which takes a second that most commands do not need

    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # that parameters which not all trials have are left out
            return importance.get_param_importances(study, evaluator=importance.FanovaImportanceEvaluator(seed=0))
    except (ValueError, RuntimeError):
        return {}  # the values do not differ


def slices(launch: Launch, space: Space) -> list[Chart]:
    """One chart per parameter: each trial's value against its result, with the same scale of results."""
    found = _scored(launch)
    scores = list(found.values())
    if not scores:
        return []
    pad = MARGIN * (max(scores) - min(scores) or 1.0)
    limits = [min(scores) - pad, max(scores) + pad]
    charts = []
    for path, domain in space.items():
        trials = [trial for trial in launch.searched if trial.number in found and _has(trial, path, domain)]
        if trials:
            charts.append(_slice(trials, found, path, domain, launch, limits))
    return charts


def _slice(
    trials: Sequence[TrialRecord], scores: Mapping[int, float], path: str, domain: Distribution, launch: Launch, limits: list[float]
) -> Chart:
    figure = go.Figure(layout=LAYOUT | {"height": SLICE_HEIGHT, "showlegend": False, "margin": {"l": 40, "r": 8, "t": 8, "b": 28}})
    for role, group in by_role(trials, launch).items():
        x = [_plotted(trial.point[path], domain) for trial in group]
        figure.add_trace(points(group, x, [scores[trial.number] for trial in group], role))
    figure.update_xaxes(**_axis(domain))
    figure.update_yaxes(tickformat=".0%", range=limits)
    return Chart(figure, _slice_in_words(trials, scores, path), title=path)


def _slice_in_words(trials: Sequence[TrialRecord], scores: Mapping[int, float], path: str) -> str:
    best = max(trials, key=lambda trial: scores[trial.number])
    values = [trial.point[path] for trial in trials]
    range_tried = "" if any(_is_option(value) for value in values) else f" between {_short(min(values))} and {_short(max(values))}"
    return f"Best {percent(scores[best.number])} at {_short(best.point[path])}; {len(trials)} trials{range_tried}."


def _axis(domain: Distribution) -> dict[str, Any]:
    if domain.sampler == "choice":
        return {"type": "category", "categoryorder": "array", "categoryarray": [_plotted(value, domain) for value in domain.edges]}
    lower, upper = map(float, domain.edges)
    if not domain.sampler.startswith("log"):
        pad = MARGIN * (upper - lower)
        return {"range": [lower - pad, upper + pad], "nticks": 6}
    ticks = _ticks(lower, upper)
    lower, upper = math.log10(lower), math.log10(upper)
    pad = MARGIN * (upper - lower)
    texts = [f"{tick:g}" for tick in ticks]
    return {"type": "log", "range": [lower - pad, upper + pad], "tickvals": ticks, "ticktext": texts, "tickangle": 0}


def _ticks(lower: float, upper: float) -> list[float]:
    """At most `MAX_TICKS` round numbers for a logarithmic axis."""
    decades = range(math.floor(math.log10(lower)), math.ceil(math.log10(upper)) + 1)
    for steps in ((1, 2, 5), (1, 3), (1,)):
        ticks = [tick for decade in decades for step in steps if lower <= (tick := float(f"{step}e{decade}")) <= upper]
        if len(ticks) <= MAX_TICKS:
            return ticks
    return ticks[:: math.ceil(len(ticks) / MAX_TICKS)]


def parallel_coordinates(launch: Launch, space: Space) -> Chart | None:
    """One line per trial across its values of all parameters, each on its own scale, to its score; None if no trial has one."""
    scores = _scored(launch)
    if not scores:
        return None
    figure = go.Figure(layout=LAYOUT)
    lines = [trial for trial in launch.searched if trial.number in scores]
    lowest, highest = min(scores.values()), max(scores.values())
    best = _best(lines, scores)
    for role, group in by_role(lines, launch).items():
        for is_best in (False, True):
            drawn = [trial for trial in group if (trial.number in best) == is_best]
            if drawn:
                heights = [_heights(trial, space, (scores[trial.number] - lowest) / (highest - lowest or 1.0)) for trial in drawn]
                figure.add_trace(_lines(drawn, heights, role, stands_out=is_best or role == CHOSEN))
    _label_axes(figure, space, launch, (percent(lowest), percent(highest)))
    words = f"{len(lines)} trials across {len(space)} parameters; scores from {percent(lowest)} to {percent(highest)}"
    chosen = launch.chosen
    at = "" if chosen is None else ", ".join(f"{path} {_short(chosen.point[path])}" for path in space if path in chosen.point)
    return Chart(figure, words + (f"; the chosen one at {at}." if at else "."), min_width=AXIS_WIDTH * (len(space) + 1))


def _best(trials: Sequence[TrialRecord], scores: Mapping[int, float]) -> set[int]:
    """Numbers of the best quarter of the completed trials."""
    completed = [trial.number for trial in trials if trial.outcome is Outcome.COMPLETED]
    return set(sorted(completed, key=lambda number: -scores[number])[: math.ceil(BEST_SHARE * len(completed))])


def _heights(trial: TrialRecord, space: Space, score: float) -> list[float | None]:
    """The trial's height on each axis, from 0 to 1; None if it does not have the parameter."""
    on_axes = (_height(trial.point[path], domain) if _has(trial, path, domain) else None for path, domain in space.items())
    return [*on_axes, score]


def _has(trial: TrialRecord, path: str, domain: Distribution) -> bool:
    """Whether the trial has the parameter, with a value within its range: a store may contain anything."""
    return path in trial.point and domain.contains(trial.point[path])


def _height(value: Any, domain: Distribution) -> float:
    if domain.sampler == "choice":
        return [str(option) for option in domain.edges].index(str(value)) / (len(domain.edges) - 1)
    lower, upper = map(float, domain.edges)
    scale = math.log if domain.sampler.startswith("log") else float
    return (scale(value) - scale(lower)) / (scale(upper) - scale(lower))


def _lines(trials: Sequence[TrialRecord], heights: Sequence[Sequence[float | None]], role: str, *, stands_out: bool) -> go.Scatter:
    """One trace with one line per trial and a gap after each."""
    width = len(heights[0])
    return go.Scatter(
        x=[place for _ in trials for place in (*range(width), None)],
        y=[height for line in heights for height in (*line, None)],
        customdata=[trial.number for trial in trials for _ in range(width + 1)],
        hovertemplate=TOLD,
        mode="lines+markers",
        name=f"{role}, best quarter" if stands_out and role != CHOSEN else role,
        opacity=1 if stands_out else FADED,
        line={"color": colour(role), "width": 3 if role == CHOSEN else 1.5 if stands_out else 1},
        marker={"size": 3},
    )


def _label_axes(figure: go.Figure, space: Space, launch: Launch, scores: tuple[str, str]) -> None:
    for place in range(len(space) + 1):
        line = {"color": colour("muted"), "width": 1}
        figure.add_shape(type="line", x0=place, x1=place, y0=0, y1=1, line=line, layer="below")
    for place, domain in enumerate(space.values()):
        if domain.sampler == "choice":
            for option in domain.edges:
                _annotate(figure, place, _height(option, domain), str(option), yanchor="middle", xanchor="left", xshift=4)
        else:
            _label_ends(figure, place, _short(domain.edges[0]), _short(domain.edges[-1]))
    _label_ends(figure, len(space), *scores)
    names = [escaped(path) for path in space] + [f"<b>{launch.objective.replace('_', ' ')}</b>"]
    figure.update_xaxes(tickvals=list(range(len(names))), ticktext=[_broken(name) for name in names], showgrid=False, tickangle=0)
    figure.update_xaxes(range=[-0.4, len(names) - 0.6], side="top")
    figure.update_yaxes(visible=False, range=[-0.08, 1.08])
    figure.update_layout(legend={"y": -0.02, "yanchor": "top"}, margin={"l": 8, "r": 8, "t": 60, "b": 40})


def _label_ends(figure: go.Figure, place: int, lower: str, upper: str) -> None:
    _annotate(figure, place, 0, lower, yanchor="top")
    _annotate(figure, place, 1, upper, yanchor="bottom")


def _annotate(figure: go.Figure, place: int, height: float, text: str, **where: Any) -> None:
    font = {"size": 11, "color": colour("muted")}
    figure.add_annotation(x=place, y=height, text=escaped(text), showarrow=False, font=font, **where)


def _broken(name: str) -> str:
    """Break the name into one line per part, because there is only room for one word between neighbours."""
    return name.replace(".", ".<br>").replace("_", "_<br>")


def _scored(launch: Launch) -> dict[int, float]:
    """The results of the search's trials that have one, by number."""
    objective = launch.objective
    return {trial.number: score for trial in launch.searched if (score := trial.at_best(objective, objective)) is not None}


def _plotted(value: Any, domain: Distribution) -> Any:
    return escaped(str(value)) if domain.sampler == "choice" else value


def _is_option(value: Any) -> bool:
    return isinstance(value, bool) or not isinstance(value, int | float)


def _short(value: Any) -> str:
    return str(value) if _is_option(value) else f"{value:.3g}"
