"""Trials as a chart's points: the mark and colour of how each ended, and the key to what is told of it."""

from collections.abc import Sequence
from typing import Any

import plotly.graph_objects as go

from tuning.outcome import RUNNING, Outcome
from tuning.report.palette import CHOSEN, SYMBOLS, colour
from tuning.results import Launch, TrialRecord

LAYOUT = {"template": "none", "height": 400}
"""Of every figure; the rest is the page's, see `palette.plotly_template`."""
ORDER = (
    Outcome.FAILED.value,
    Outcome.INTERRUPTED.value,
    Outcome.DIVERGED.value,
    Outcome.PRUNED.value,
    RUNNING,
    Outcome.COMPLETED.value,
    CHOSEN,
)
"""In which trials are drawn: what matters most lies on top."""
TOLD = "%{hovertext}<extra></extra>"
"""A point's tooltip: what the page tells of the trial that its `customdata` names."""
SIZES = {CHOSEN: 14, Outcome.PRUNED.value: 8}


def role_of(trial: TrialRecord, launch: Launch) -> str:
    """Its role in the palette: how it ended, or that it is the chosen one."""
    return CHOSEN if trial is launch.chosen else trial.state


def by_role(trials: Sequence[TrialRecord], launch: Launch) -> dict[str, list[TrialRecord]]:
    """The trials of each role that occurs, in the order of drawing."""
    groups: dict[str, list[TrialRecord]] = {role: [] for role in ORDER}
    for trial in trials:
        groups[role_of(trial, launch)].append(trial)
    return {role: group for role, group in groups.items() if group}


def roles_in(trials: Sequence[TrialRecord], launch: Launch) -> list[str]:
    """The roles that occur among `trials`, for a key; the most important first."""
    return list(reversed(by_role(trials, launch)))


def marker(role: str) -> dict[str, Any]:
    """Plotly's marker of the role."""
    return {
        "symbol": SYMBOLS[role][0],
        "color": colour(role),
        "size": SIZES.get(role, 9),
        "opacity": 1,
        "line": {"width": 1.8 if SYMBOLS[role][0].endswith("-open") else 0},
    }


def points(trials: Sequence[TrialRecord], x: Sequence[Any], y: Sequence[Any], role: str, **more: Any) -> go.Scatter:
    """A mark a trial."""
    return go.Scatter(
        x=list(x),
        y=list(y),
        customdata=[trial.number for trial in trials],
        hovertemplate=TOLD,
        mode="markers",
        name=role,
        marker=marker(role),
        **more,
    )
