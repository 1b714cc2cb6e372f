"""Results of simulations as Markdown tables for people and as numbers for scripts."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import Any

import numpy as np
from rich import box
from rich.table import Table

from tuning.simulation.arms import Arm
from tuning.simulation.comparison import NEVER, ArmRun
from tuning.simulation.leave_one_out import LookupQuality

QUARTILES = (0.5, 0.25, 0.75)
COMPARISON = (
    "arm",
    "trials",
    "epochs",
    "as good after, epochs",
    "as good after, seconds",
    "seeds that were",
    "test accuracy at the end",
    "regret, points",
)
QUALITY = (
    "neighbours",
    "order after one epoch",
    "order of results",
    "order of test accuracies",
    "test accuracy is off by, points",
)


def quality_table(found: Sequence[LookupQuality], title: str) -> Table:
    """One row per number of neighbours."""
    table = _table(QUALITY, title)
    for quality in found:
        orders = (quality.first, quality.result, quality.test_accuracy)
        shown = ("-" if order is None else f"{order:.3f}" for order in orders)
        table.add_row(str(quality.neighbours), *shown, f"{100 * quality.error:.2f}")
    return table


def comparison_table(found: Mapping[Arm, Sequence[ArmRun]], title: str) -> Table:
    """One row per arm: medians over seeds, and quartiles."""
    table = _table(COMPARISON, title)
    for arm, runs in found.items():
        table.add_row(*_row(arm, runs))
    return table


def _table(headings: Sequence[str], title: str) -> Table:
    table = Table(title=title, title_justify="left", box=box.MARKDOWN)
    for heading in headings:
        table.add_column(heading, justify="left" if heading == headings[0] else "right")
    return table


def _row(arm: Arm, runs: Sequence[ArmRun]) -> list[str]:
    reached = sum(run.epochs < NEVER for run in runs)
    return [
        str(arm),
        _spread([run.num_trials for run in runs], "{:.0f}"),
        _spread([run.epochs_run for run in runs], "{:.0f}"),
        _spread([run.epochs for run in runs], "{:.0f}"),
        _spread([run.seconds for run in runs], "{:.0f}"),
        f"{reached} of {len(runs)}",
        _spread([100 * run.test_accuracy for run in runs], "{:.2f} %"),
        _spread([100 * run.regret for run in runs], "{:.2f}"),
    ]


def _spread(values: Sequence[float], form: str) -> str:
    median, lower, upper = ("never" if value == NEVER else form.format(value) for value in quartiles(values))
    return median if lower == upper else f"{median} ({lower} to {upper})"


def quartiles(values: Sequence[float]) -> tuple[float, float, float]:
    """Median, lower and upper quartile, without interpolation, because there is nothing between a number and `NEVER`."""
    median, lower, upper = np.quantile(values, QUARTILES, method="inverted_cdf").tolist()
    return median, lower, upper


def comparison_figures(found: Mapping[Arm, Sequence[ArmRun]]) -> list[dict[str, Any]]:
    """The runs of each arm with their medians and quartiles, for a script; null for `NEVER`."""
    names = ("num_trials", "epochs_run", "epochs", "seconds", "test_accuracy", "regret")
    return [
        {
            "arm": str(arm),
            "runs": [{name: _or_none(value) for name, value in asdict(run).items()} for run in runs],
            **{name: [_or_none(value) for value in quartiles([getattr(run, name) for run in runs])] for name in names},
        }
        for arm, runs in found.items()
    ]


def _or_none(value: float) -> float | None:
    return None if value == NEVER else value
