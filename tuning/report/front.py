"""Students of several architectures as a table: the best of each, what it costs, and the Pareto fronts that it is on."""

from collections.abc import Sequence

from rich.table import Table

from tuning.display import percent
from tuning.results import Launch
from tuning.results.front import COSTS, FrontStudent


def front_table(students: Sequence[FrontStudent], launch: Launch) -> Table:
    """The students as a table for a terminal, cheapest first."""
    table = Table(title=f"{launch.name}: the best student of each architecture, and what it costs", title_justify="left")
    for place, heading in enumerate(front_headings(launch)):
        table.add_column(heading, justify="left" if place == 0 else "right")
    for row in front_rows(students, launch):
        table.add_row(*row)
    return table


def front_headings(launch: Launch) -> list[str]:
    """Headings of the columns of `front_rows`."""
    return ["student", "trial", launch.objective.replace("_", " "), "test accuracy", *COSTS.values(), "on the front of"]


def front_rows(students: Sequence[FrontStudent], launch: Launch) -> list[list[str]]:
    """One row per architecture, as texts; a dash where nothing is recorded."""
    return [
        [
            student.arch,
            str(student.trial.number),
            percent(student.score),
            percent(student.trial.at_best("test_accuracy", launch.objective)),
            *(_short(student.costs.get(cost)) for cost in COSTS),
            _names(student.on),
        ]
        for student in students
    ]


def _names(costs: Sequence[str]) -> str:
    if len(costs) == len(COSTS):
        return "all"
    return ", ".join(COSTS[cost] for cost in costs) or "-"


def _short(value: float | None) -> str:
    """Three digits and a letter for thousand, million or billion."""
    if value is None:
        return "-"
    for unit, letter in ((1e9, "G"), (1e6, "M"), (1e3, "k")):
        if value >= unit:
            return f"{value / unit:.3g} {letter}"
    return f"{value:.3g}"
