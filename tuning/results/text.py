"""Results for `print`: the leaderboard, the chosen trial first, and the choice in a sentence."""

from collections.abc import Sequence

from tuning.results.leaderboard import choice_line, headings, progress_line, row, shown_trials, title
from tuning.results.model import Launch


def launch_text(launch: Launch, lines: Sequence[str] = ()) -> str:
    """A table, the launch's progress, the choice, and `lines`."""
    rows = [headings(launch), *(row(trial, launch) for trial in shown_trials(launch))]
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    table = ["  ".join(cell.rjust(width) for cell, width in zip(cells, widths, strict=True)) for cells in rows]
    return "\n".join([title(launch), *table, progress_line(launch), choice_line(launch), *lines])
