"""The page's only palette: one colour per role, light and dark, as CSS and as Plotly's template."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from tuning.outcome import RUNNING, Outcome

CHOSEN = "chosen"


@dataclass(frozen=True)
class Colour:
    """A role's colour on a light and on a dark page."""

    light: str
    dark: str


PALETTE: Mapping[str, Colour] = {
    "page": Colour("#ffffff", "#14181d"),
    "raised": Colour("#f4f6f8", "#1d232a"),
    "line": Colour("#d5dbe1", "#323b45"),
    "text": Colour("#1f2933", "#e4e8ec"),
    "muted": Colour("#56626f", "#a7b1bc"),
    "link": Colour("#1a5f9a", "#74b9f5"),
    "marked": Colour("#fdeee2", "#38271b"),
    Outcome.COMPLETED.value: Colour("#1f6fb2", "#5fb0f2"),
    Outcome.PRUNED.value: Colour("#687481", "#97a3b0"),
    Outcome.DIVERGED.value: Colour("#856404", "#d9b045"),
    Outcome.FAILED.value: Colour("#a3154a", "#ff7d9f"),
    Outcome.INTERRUPTED.value: Colour("#7648a6", "#bc9ff2"),
    RUNNING: Colour("#1a7a48", "#55c98b"),
    CHOSEN: Colour("#bf3f0a", "#ff8d52"),
}
"""Texts and marks have a contrast of at least 4.5:1 with the page (WCAG 2.2, 1.4.3); `line` is only a separator."""

SYMBOLS: Mapping[str, tuple[str, str]] = {
    Outcome.COMPLETED.value: ("circle", "●"),
    Outcome.PRUNED.value: ("x-thin-open", "\N{MULTIPLICATION SIGN}"),
    Outcome.DIVERGED.value: ("triangle-up", "▲"),
    Outcome.FAILED.value: ("square", "■"),
    Outcome.INTERRUPTED.value: ("hourglass", "⧗"),
    RUNNING: ("diamond-open", "◇"),
    CHOSEN: ("star", "★"),
}
"""The mark of each role, for Plotly and as a character, because some readers cannot tell colours apart."""
SERIES = (Outcome.COMPLETED.value, CHOSEN, RUNNING, Outcome.INTERRUPTED.value, Outcome.DIVERGED.value, Outcome.PRUNED.value)
"""Roles whose colours are used for the lines of several launches, in this order."""


def colour(role: str) -> str:
    """The role's colour on a light page. Figures are drawn in these; a dark page replaces them."""
    return PALETTE[role].light


def dark_by_light() -> dict[str, str]:
    """The dark colour of each light one."""
    return {shade.light: shade.dark for shade in PALETTE.values()}


def custom_properties(scheme: str) -> str:
    """CSS for `scheme`, ``light`` or ``dark``: one custom property per role."""
    return " ".join(f"--{role}: {getattr(shade, scheme)};" for role, shade in PALETTE.items())


def plotly_template() -> dict[str, Any]:
    """What all charts have in common."""
    axis = {
        "gridcolor": colour("line"),
        "linecolor": colour("line"),
        "zeroline": False,
        "automargin": True,
        "title": {"standoff": 8},
        "tickfont": {"color": colour("muted")},
    }
    clear = "rgba(0,0,0,0)"
    return {
        "layout": {
            "font": {"family": "system-ui, sans-serif", "size": 12, "color": colour("text")},
            "paper_bgcolor": clear,
            "plot_bgcolor": clear,
            "margin": {"l": 48, "r": 12, "t": 24, "b": 40},
            "xaxis": axis,
            "yaxis": axis,
            "legend": {"orientation": "h", "x": 0, "y": 1.02, "yanchor": "bottom"},
            "modebar": {"bgcolor": clear, "color": colour("muted"), "activecolor": colour("link")},
            "hovermode": "closest",
            "hoverlabel": {
                "align": "left",
                "bgcolor": colour("raised"),
                "bordercolor": colour("line"),
                "font": {"color": colour("text")},
            },
        }
    }
