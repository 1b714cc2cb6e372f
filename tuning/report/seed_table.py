"""Trials that differ only in a seed, side by side: mean and deviation of what each group reached, and what it cost."""

import functools
import math
import statistics
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from rich import box
from rich.table import Table

from tuning.outcome import Outcome
from tuning.report.parquet import robustness
from tuning.results import Launch, TrialRecord
from tuning.study import Study
from tuning.study.search_space import REPEATED_PATH

POINTS = 100.0
MEGABYTE = 1e6


@dataclass(frozen=True)
class Group:
    """Completed trials with the same `values` of the compared parameters; `failed`: number of trials that did not complete."""

    values: tuple[str, ...]
    trials: Sequence[TrialRecord]
    failed: int


def group_trials(launch: Launch, by: Sequence[str]) -> list[Group]:
    """Group the launch's trials by their values of the parameters `by`, in the order of the first trial of each group."""
    groups: dict[tuple[str, ...], list[TrialRecord]] = {}
    for trial in sorted(launch.trials, key=lambda trial: trial.number):
        groups.setdefault(tuple(trial.params.get(path, "-") for path in by), []).append(trial)
    return [
        Group(
            values=values,
            trials=[trial for trial in trials if trial.outcome is Outcome.COMPLETED],
            failed=sum(trial.outcome is not Outcome.COMPLETED for trial in trials),
        )
        for values, trials in groups.items()
    ]


def compared_by_itself(study: Study) -> list[str]:
    """The parameters by which a report compares trials by default: those of a grid, whose points are run to be compared."""
    return [path for path in study.space if path != REPEATED_PATH] if study.search.sampler == "grid" else []


def comparison_table(launch: Launch, by: Sequence[str], *, target: float) -> Table:
    """One row per group: accuracies in percent, epochs until one first reaches `target`, seconds, image-steps, megabytes of replay.

    Accuracy is the test accuracy if it was measured, else the blind score. Spreads are sample deviations over the
    group's trials. Mean and deviation over all epochs, and the deviation over their second half, tell what to expect without
    labels to pick an epoch by (PRE-DFKD, arXiv:2201.03019, sec. 4).
    """
    metric = launch.accuracy_metric
    columns = accuracy_columns(metric, target)
    title = f"{launch.name}: {metric.replace('_', ' ')} in percent, mean ± deviation over trials"
    table = Table(title=title, title_justify="left", box=box.MARKDOWN)
    for heading in (*by, "trials", *columns):
        table.add_column(heading, justify="left" if heading in by else "right")
    for group in group_trials(launch, by):
        failed = f" ({group.failed} not completed)" if group.failed else ""
        cells = [column(group.trials) if group.trials else "-" for column in columns.values()]
        table.add_row(*group.values, f"{len(group.trials)}{failed}", *cells)
    return table


COSTS = {
    "seconds for images": ("generation_s", 1.0),
    "seconds for the student": ("distillation_s", 1.0),
    "thousand image-steps for images": ("generation_images", 1000.0),
    "thousand image-steps for the student": ("distillation_images", 1000.0),
}
"""By heading, metrics to sum over a trial's epochs and their units; separate, as published tables compare different costs."""

Column = Callable[[Sequence[TrialRecord]], str]


def accuracy_columns(metric: str, target: float) -> dict[str, Column]:
    """What is shown for a group, by heading."""

    def curves(trials: Sequence[TrialRecord]) -> list[list[float]]:
        return [[POINTS * trial.curves[metric][epoch] for epoch in sorted(trial.curves[metric])] for trial in trials]

    def each(trials: Sequence[TrialRecord], figure: str) -> list[float]:
        return [POINTS * robustness(trial, metric)[figure] for trial in trials]

    return {
        "last": lambda trials: spread(each(trials, "last")),
        "best": lambda trials: spread(each(trials, "best")),
        "mean over epochs": lambda trials: spread(each(trials, "mean")),
        "deviation over epochs": lambda trials: f"{statistics.fmean(each(trials, 'std')):.2f}",
        "of the 2nd half": lambda trials: f"{statistics.fmean(each(trials, 'late_std')):.2f}",
        f"epochs to {POINTS * target:g} %": lambda trials: _reached(curves(trials), POINTS * target),
        "seconds": lambda trials: spread([trial.seconds for trial in trials], digits=0),
        **{heading: functools.partial(_total, metric=metric, unit=unit) for heading, (metric, unit) in COSTS.items()},
        "replay MB": lambda trials: (
            f"{max(max(trial.curves['replay_bytes'].values(), default=0.0) for trial in trials) / MEGABYTE:.2f}"
        ),
    }


def _total(trials: Sequence[TrialRecord], *, metric: str, unit: float) -> str:
    """The mean of the metric's sum over trials; a dash if an earlier version did not record it."""
    sums = [sum(trial.curves[metric].values()) / unit for trial in trials if trial.curves.get(metric)]
    return f"{statistics.fmean(sums):.0f}" if sums else "-"


def spread(values: Sequence[float], *, digits: int = 2) -> str:
    """``mean ± sample deviation``, or only the mean for a single value."""
    mean = f"{statistics.fmean(values):.{digits}f}"
    return mean if len(values) < 2 else f"{mean} ± {statistics.stdev(values):.{digits}f}"


def _reached(curves: Sequence[Sequence[float]], target: float) -> str:
    """The mean first epoch at `target`, and how many get there if not all do."""
    firsts = [next((epoch for epoch, value in enumerate(curve, start=1) if value >= target), math.inf) for curve in curves]
    there = [epoch for epoch in firsts if epoch < math.inf]
    if not there:
        return "never"
    share = "" if len(there) == len(curves) else f" ({len(there)} of {len(curves)})"
    return f"{statistics.fmean(there):.1f}{share}"
