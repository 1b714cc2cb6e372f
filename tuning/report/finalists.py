"""Finalists in the report: one row each with its scores over seeds, and sentences on how one was chosen."""

from rich import box
from rich.table import Table

from tuning.display import percent
from tuning.results import Finalist, Launch
from tuning.results.leaderboard import TIE


def finalists_table(launch: Launch) -> Table:
    """The finalists as a table for a terminal, the chosen one first."""
    finalists, seeds = _count(len(launch.finalists), "finalist"), _count(len(launch.finalists[0].runs), "seed")
    title = f"{launch.name}: {finalists}, mean ± deviation over {seeds}"
    table = Table(title=title, title_justify="left", box=box.HEAVY_HEAD)
    for heading in finalist_headings(launch):
        table.add_column(heading, justify="right")
    for row in finalist_rows(launch):
        table.add_row(*row)
    return table


def finalist_headings(launch: Launch) -> list[str]:
    """Headings of the columns of `finalist_rows`."""
    return ["of trial", "runs", _words(launch.objective), "late epochs", *map(_words, _measures(launch))]


def finalist_rows(launch: Launch) -> list[list[str]]:
    """One row per finalist, the chosen one first; those with the sign `TIE` cannot be told from the best."""
    tied = {trial.number for trial in launch.ties}
    return [_row(finalist, launch, is_tied=finalist.runs[0].number in tied) for finalist in launch.finalists]


def finalist_lines(launch: Launch) -> list[str]:
    """How the finalist was chosen, in sentences."""
    if not launch.finalists:
        return []
    chosen, *others = launch.finalists
    earlier = next(
        (trial.at_best(launch.objective, launch.objective) for trial in launch.trials if trial.number == chosen.of), None
    )
    seeds = _count(len(chosen.runs), "new seed")
    lines = [
        f"it has the values of trial {chosen.of}, which scored {percent(earlier)} in the search: over {seeds} "
        f"{_words(launch.objective)} {_spread(chosen.over_seeds(launch.objective))}"
    ]
    tied = {trial.finalist_of for trial in launch.ties}
    if tied:
        named = ", ".join(str(finalist.of) for finalist in others if finalist.of in tied)
        cheaper = any(other.runs[0].cost != chosen.runs[0].cost for other in others if other.of in tied)
        rule = "cheapest student" if cheaper else "one with the highest mean minus deviation over its late epochs"
        lines.append(
            f"= within the noise of its seeds (Welch, 5 %): values of trial{'s' * (len(tied) > 1)} {named}; the {rule} is chosen"
        )
    return lines


def _row(finalist: Finalist, launch: Launch, *, is_tied: bool) -> list[str]:
    return [
        f"{finalist.of}{TIE}" if is_tied else str(finalist.of),
        ", ".join(str(trial.number) for trial in finalist.runs),
        _spread(finalist.over_seeds(launch.objective)),
        _spread(finalist.over_epochs()),
        *(_spread(finalist.over_seeds(metric)) for metric in _measures(launch)),
    ]


def _measures(launch: Launch) -> list[str]:
    """Metrics shown beside the score that had no part in the choice."""
    wanted = [metric for metric in ("held_out_agreement", "test_accuracy") if metric != launch.objective]
    return [metric for metric in wanted if any(finalist.over_seeds(metric) for finalist in launch.finalists)]


def _spread(found: tuple[float, float] | None) -> str:
    if found is None:
        return "-"
    mean, deviation = found
    return f"{percent(mean)} ± {100 * deviation:.2f}"


def _words(metric: str) -> str:
    return metric.replace("_", " ")


def _count(number: int, what: str) -> str:
    return f"{number} {what}{'' if number == 1 else 's'}"
