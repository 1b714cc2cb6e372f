"""Trials as points of a chart: mark and colour by how each ended, and the key of its tooltip."""

from collections.abc import Sequence
from typing import Any

import plotly.graph_objects as go

from tuning.outcome import RUNNING, Outcome
from tuning.report.palette import CHOSEN, SYMBOLS, colour
from tuning.results import Launch, TrialRecord

LAYOUT = {"template": "none", "height": 400}
"""Layout of every figure; the page adds the rest, see `palette.plotly_template`."""
ORDER = (
    Outcome.FAILED.value,
    Outcome.INTERRUPTED.value,
    Outcome.DIVERGED.value,
    Outcome.PRUNED.value,
    RUNNING,
    Outcome.COMPLETED.value,
    CHOSEN,
)
"""Order in which trials are drawn, so that what matters most is on top."""
TOLD = "%{hovertext}<extra></extra>"
"""Template of a point's tooltip: the page fills in the tooltip of the trial in its `customdata`."""
SIZES = {CHOSEN: 14, Outcome.PRUNED.value: 8}


def role_of(trial: TrialRecord, launch: Launch) -> str:
    """The trial's role in the palette: how it ended, or that it was chosen."""
    return CHOSEN if trial is launch.chosen else trial.state


def by_role(trials: Sequence[TrialRecord], launch: Launch) -> dict[str, list[TrialRecord]]:
    """The trials by role, for roles that occur, in drawing order."""
    groups: dict[str, list[TrialRecord]] = {role: [] for role in ORDER}
    for trial in trials:
        groups[role_of(trial, launch)].append(trial)
    return {role: group for role, group in groups.items() if group}


def roles_in(trials: Sequence[TrialRecord], launch: Launch) -> list[str]:
    """The roles that occur among `trials`, for a legend, most important first."""
    return list(reversed(by_role(trials, launch)))


def marker(role: str) -> dict[str, Any]:
    """Plotly's marker for the role."""
    return {
        "symbol": SYMBOLS[role][0],
        "color": colour(role),
        "size": SIZES.get(role, 9),
        "opacity": 1,
        "line": {"width": 1.8 if SYMBOLS[role][0].endswith("-open") else 0},
    }


def points(trials: Sequence[TrialRecord], x: Sequence[Any], y: Sequence[Any], role: str, **more: Any) -> go.Scatter:
    """One mark per trial."""
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
