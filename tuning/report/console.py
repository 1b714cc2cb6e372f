"""The report on a terminal: the leaderboard, what pruning saved, how good the blind choice was."""

import shlex
from collections.abc import Sequence
from pathlib import Path

from rich.console import Console
from rich.table import Table

from cpsc.errors import ConfigError
from tuning.display import percent
from tuning.launch.launch import resume_command
from tuning.redaction import redact
from tuning.report.criteria import CriterionRank, criteria_table
from tuning.report.finalists import finalist_lines, finalists_table
from tuning.report.front import front_table
from tuning.report.seed_table import comparison_table
from tuning.results import Launch, SweepSummary, TrialRecord
from tuning.results.front import front_of
from tuning.results.in_doubt import in_doubt
from tuning.results.leaderboard import choice_line, headings, row, shown_trials, title
from tuning.study.paths import path_from
from tuning.tracking import store_uri

MARKDOWN_WIDTH = 400
SHOWN_TIES = 8
WORTH_SAYING = 5
"""Number of trials in a row without a gain from which on they are mentioned."""


def print_report(launch: Launch, searched: Sequence[str], console: Console) -> None:
    """Print the leaderboard of the best trials, what puts the result in doubt, and the figures in words.

    `searched`: the parameters of the chosen trial to show.
    """
    console.print(_leaderboard(launch))
    if launch.finalists:
        console.print(finalists_table(launch))
    if students := front_of(launch):
        console.print(front_table(students, launch))
    for line in (*doubt_lines(launch), *summary_lines(launch, searched)):
        # A terminal would break lines within numbers, Rich breaks them between words; in a file each line stays whole.
        console.print(line, markup=False, soft_wrap=not console.is_terminal)


def print_comparison(launch: Launch, by: Sequence[str], console: Console, *, target: float) -> None:
    """Print groups of trials that differ only in their seed, side by side. ConfigError if no trial has a parameter of `by`."""
    for path in by:
        if not any(path in trial.params for trial in launch.trials):
            raise ConfigError(f"--by {path}: no trial of launch {launch.name} has this parameter; name one of its config")
    wide = Console(file=console.file, width=MARKDOWN_WIDTH)  # a wrapped row would not be valid Markdown
    wide.print(comparison_table(launch, by, target=target))


def print_criteria(launch: Launch, ranks: Sequence[CriterionRank], console: Console) -> None:
    """Print how well each criterion orders the launch's students, if that is known."""
    if ranks:
        Console(file=console.file, width=MARKDOWN_WIDTH).print(criteria_table(launch, ranks))


def print_summary(summary: SweepSummary, console: Console) -> None:
    """Print the report of a sweep that has just ended, what it cost, and where everything is."""
    print_report(summary.launch, list(summary.study.space), console)
    what = "this attempt" if summary.earlier_s else "the sweep"
    earlier = f"; with earlier attempts {summary.elapsed_s + summary.earlier_s:.0f} s" if summary.earlier_s else ""
    for line in (
        f"{what} took {summary.elapsed_s:.0f} s, {percent(summary.tracking_share)} of it in tracking calls{earlier}",
        f"the chosen student is registered as {summary.model_uri}" if summary.model_uri else "",
        *_where(summary),
    ):
        if line:
            console.print(line, markup=False, soft_wrap=True)


def _where(summary: SweepSummary) -> list[str]:
    store = redact(store_uri(summary.study))
    if not summary.num_undelivered:
        launch = path_from(Path.cwd(), summary.study.local / summary.launch.name)  # the study file would not know the overrides
        return [f"every trial is in MLflow at {store}", f"look at it with: {shlex.join(['cpsc-tune', 'ui', launch])}"]
    resume = resume_command(summary.study, summary.launch.name)
    return [
        f"MLflow at {store} is not reachable: {summary.num_undelivered} records wait in the journal",
        f"deliver them and register the chosen student with: {resume}",
    ]


def summary_lines(launch: Launch, searched: Sequence[str]) -> list[str]:
    """The launch in sentences."""
    lines = [launch.counts_in_words(), _epochs_line(launch)]
    if launch.chosen is None:
        return [*lines, choice_line(launch)]
    lines += _chosen_lines(launch, launch.chosen, searched)
    lines += finalist_lines(launch) or _tie_lines(launch)
    if (idle := launch.trials_since_gain) >= WORTH_SAYING:
        lines.append(f"the last {idle} trials of the search were no better than the best before them")
    regret, correlation = launch.regret(), launch.rank_correlation()
    if regret is not None:
        lines.append(f"regret of the choice: {100 * regret:.2f} points below the best trial's test accuracy")
    if correlation is not None:
        blind = launch.blind_metric.replace("_", " ")
        lines.append(f"rank correlation of {blind} and test accuracy over all trial-epochs: {correlation:.3f}")
    return lines


def _epochs_line(launch: Launch) -> str:
    """What pruning saved; only for trials that are over, because it is not known of the others yet."""
    over = [trial for trial in launch.trials if trial.is_over]
    run, unpruned = sum(trial.num_epochs for trial in over), sum(map(launch.length_of, over))
    share = percent(run / unpruned if unpruned else 0.0)
    if launch.is_over and not launch.open_trials:
        return f"epochs: {run} run, out of {unpruned} without pruning ({share})"
    saved = f"; the {len(over)} trials that are over: {run} out of {unpruned} without pruning ({share})" if over else ""
    return f"epochs: {launch.epochs_run} run so far{saved}"


def doubt_lines(launch: Launch) -> list[str]:
    """A line for each reason not to believe the result."""
    return [f"IN DOUBT: {finding}" for finding in in_doubt(launch)]


def _tie_lines(launch: Launch) -> list[str]:
    """The trials that might as well have been chosen."""
    if not launch.ties or launch.chosen is None:
        return []
    shown = ", ".join(str(trial.number) for trial in launch.ties[:SHOWN_TIES])
    more = f" and {len(launch.ties) - SHOWN_TIES} more" if len(launch.ties) > SHOWN_TIES else ""
    cheaper = any(trial.cost != launch.chosen.cost for trial in launch.ties)
    rule = ": of these the cheapest student is chosen" if cheaper else ""
    return [f"= within the noise of its score (McNemar, 5 %): trial{'s' * (len(launch.ties) > 1)} {shown}{more}{rule}"]


def _chosen_lines(launch: Launch, chosen: TrialRecord, searched: Sequence[str]) -> list[str]:
    objective = launch.objective
    values = ", ".join(f"{path} {short_value(chosen.params[path])}" for path in searched if path in chosen.params)
    lines = [choice_line(launch)]
    held_out = chosen.at_best("held_out_agreement", objective)
    if held_out is not None:
        lines.append(f"its agreement on images that had no part in the choice: {percent(held_out)}")
    if values:
        lines.append(f"its parameters: {values}")
    lines += _lineage_lines(launch, chosen)
    accuracy = chosen.at_best("test_accuracy", objective)
    if accuracy is not None:
        lines.append(f"its test accuracy: {percent(accuracy)}")
    return lines


def _lineage_lines(launch: Launch, trial: TrialRecord) -> list[str]:
    """The values along the lineage of a trial of a population; its own parameters are only those of its last epochs."""
    lineage = launch.lineage_of(trial)
    if not lineage:
        return []
    told = [
        f"  {stretch.epochs} as trial {stretch.number}: "
        + ", ".join(f"{path} {short_value(str(value))}" for path, value in stretch.point.items())
        for stretch in lineage
    ]
    return ["they changed while it trained, because it copied the state of other trials:", *told]


def _leaderboard(launch: Launch) -> Table:
    table = Table(title=title(launch), title_justify="left")
    for heading in headings(launch):
        table.add_column(heading, justify="right")
    for trial in shown_trials(launch):
        table.add_row(*row(trial, launch))
    return table


def searched_values(trial: TrialRecord, paths: Sequence[str]) -> list[str]:
    """The trial's values of the parameters `paths`, short; a dash where it has none."""
    return [short_value(trial.params[path]) if path in trial.params else "-" for path in paths]


def short_value(value: str) -> str:
    """A parameter's text; numbers are shortened to three digits."""
    try:
        return f"{float(value):.3g}"
    except ValueError:
        return value
