"""Results for a notebook: the leaderboard, the chosen trial first, and the choice in a sentence."""

from collections.abc import Iterable, Sequence
from html import escape

from tuning.results.in_doubt import in_doubt
from tuning.results.leaderboard import choice_line, headings, row, shown_trials, title
from tuning.results.model import Launch


def launch_html(launch: Launch, lines: Sequence[str] = ()) -> str:
    """A table, the choice in a sentence, and `lines`; names and values are escaped."""
    rows = [_row("td", row(trial, launch), is_marked=trial is launch.chosen) for trial in shown_trials(launch)]
    table = f'<table class="dataframe"><thead>{_row("th", headings(launch))}</thead><tbody>{"".join(rows)}</tbody></table>'
    doubts = [f"in doubt: {finding}" for finding in in_doubt(launch)]
    words = "".join(f"<div>{escape(line)}</div>" for line in (*doubts, choice_line(launch), *lines))
    return f"<div><b>{escape(title(launch))}</b>{table}{words}</div>"


def _row(cell: str, texts: Iterable[str], *, is_marked: bool = False) -> str:
    style = ' style="font-weight: bold"' if is_marked else ""
    return f"<tr{style}>{''.join(f'<{cell}>{escape(text)}</{cell}>' for text in texts)}</tr>"
