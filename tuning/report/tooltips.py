"""Tooltips of the trials in a chart: a trial's result, and the values that it ran with."""

from collections.abc import Sequence

from tuning.display import percent
from tuning.report.console import searched_values
from tuning.report.page import escaped
from tuning.results import Launch, TrialRecord

MAX_VALUES = 16
"""Most values in a tooltip: more lines do not fit beside a chart."""


def tooltips(launch: Launch, paths: Sequence[str]) -> dict[str, str]:
    """The tooltip of each trial, by number; `paths`: the parameters to name."""
    return {str(trial.number): tooltip(trial, launch, paths) for trial in launch.trials}


def tooltip(trial: TrialRecord, launch: Launch, paths: Sequence[str]) -> str:
    """Lines in Plotly's HTML: how the trial ended, what it reached, and its values of `paths`."""
    chosen = ", chosen" if trial is launch.chosen else ""
    return "<br>".join(
        [f"<b>trial {trial.number}</b>: {trial.state}{chosen}", *_results(trial, launch), *_values(trial, paths), *_reason(trial)]
    )


def _results(trial: TrialRecord, launch: Launch) -> list[str]:
    best = trial.best_epoch(launch.objective)
    if best is None:
        return ["no result" if trial.outcome else "no result yet"]
    metrics = dict.fromkeys((launch.objective, launch.accuracy_metric))
    found = {metric: trial.at_best(metric, launch.objective) for metric in metrics}
    lines = [f"{metric.replace('_', ' ')} {percent(value)}" for metric, value in found.items() if value is not None]
    return [*lines, f"at epoch {best} of {trial.num_epochs}"]


def _values(trial: TrialRecord, paths: Sequence[str]) -> list[str]:
    known = [path for path in paths if path in trial.params]
    shown = [f"{escaped(path)} {escaped(text)}" for path, text in zip(known, searched_values(trial, known), strict=True)]
    more = [f"and {len(shown) - MAX_VALUES} more"] if len(shown) > MAX_VALUES else []
    return [*shown[:MAX_VALUES], *more]


def _reason(trial: TrialRecord) -> list[str]:
    return [escaped(trial.reason[:120])] if trial.reason else []
