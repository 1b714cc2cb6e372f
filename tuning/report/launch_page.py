"""A launch as a page: what was chosen and how well, every trial's course, what mattered, what it cost."""

from collections.abc import Iterator, Sequence
from pathlib import Path

from mlflow import MlflowClient

from tuning.display import Display
from tuning.outcome import Outcome
from tuning.report import figures
from tuning.report.console import searched_values, summary_lines
from tuning.report.criteria import APART, HEADINGS, CriterionRank, criteria_rows
from tuning.report.finalists import finalist_headings, finalist_rows
from tuning.report.front import front_headings, front_rows
from tuning.report.optuna_study import as_study
from tuning.report.page import PageTable, Section, texts, write_page
from tuning.report.parquet import Row, trial_rows
from tuning.report.pictures import pictures_of
from tuning.results import Launch
from tuning.results.front import front_of
from tuning.results.leaderboard import trial_label
from tuning.search.asha import rungs_of
from tuning.search.optuna_space import to_optuna
from tuning.study import Study
from tuning.study.config import ResourceConfig

LEADERBOARD = ("trial", "outcome", "epochs", "best_epoch", "probe_agreement", "probe_kl", "test_accuracy", "seconds")
EXAMINED = ("trial", "outcome", "epochs", "best_epoch", "exam_score", "held_out_agreement", *LEADERBOARD[4:])
"""The same where students are chosen by examiners."""
ROBUSTNESS = ("trial", "accuracy_last", "accuracy_best", "accuracy_mean", "accuracy_std", "accuracy_late_mean", "accuracy_late_std")
COURSE = ("trial", "outcome", "node", "started", "ended", "retries", "reason")
HOUR_S = 3600


def write_study_page(
    path: Path, study: Study, launch: Launch, criteria: Sequence[CriterionRank], client: MlflowClient, display: Display
) -> None:
    """Write the launch's page. `study`: the launch's own, as it was run."""
    parts = _parts(study, launch, criteria, client)
    finished = "" if all(trial.outcome for trial in launch.trials) else ", still under way"
    write_page(
        path,
        title=f"{study.name}: {launch.name}" if launch.name != study.name else study.name,
        subtitle=f"{len(launch.trials)} trials by {study.search.sampler}, "
        f"pruning {study.prune.scheduler}, {launch.epochs} epochs a trial{finished}",
        sections=[section for part in display.track("drawing the page", parts, len(parts)) for section in part],
    )


def _parts(study: Study, launch: Launch, criteria: Sequence[CriterionRank], client: MlflowClient) -> Sequence[Iterator[Section]]:
    """In the page's order; each is drawn as its sections are asked for."""
    return [
        _findings(study, launch),
        _finalists(study, launch),
        _front(launch),
        _leaderboard(study, launch),
        _choice(launch),
        _criteria(criteria),
        _curves(study, launch),
        _what_mattered(study, launch),
        _pictures(launch, client),
        _robustness(launch),
        _timeline(launch),
        _cost(study, launch),
        _troubles(launch),
    ]


def _findings(study: Study, launch: Launch) -> Iterator[Section]:
    yield Section(title="What it found", lines=summary_lines(launch, list(study.space)))


def _finalists(study: Study, launch: Launch) -> Iterator[Section]:
    if launch.finalists:
        paths = list(study.space)
        rows = finalist_rows(launch)
        values = [searched_values(finalist.runs[0], paths) for finalist in launch.finalists]
        yield Section(
            title="Finalists",
            hint="The search's best points, run again under seeds of their own: of a point the mean over seeds decides, for the "
            "best of a search's scores is a maximum over luck, too. Those with = cannot be told from the best (Welch's test, 5 %).",
            table=PageTable(
                headings=[*finalist_headings(launch), *paths],
                rows=[[*row, *more] for row, more in zip(rows, values, strict=True)],
                marked=0,
            ),
        )


def _front(launch: Launch) -> Iterator[Section]:
    if students := front_of(launch):
        hint = (
            "The best of each architecture against what it costs. On the front are those that no other beats at both: "
            "`export --at macs=2e7` takes the best student of at most so many multiply-adds."
        )
        table = PageTable(headings=front_headings(launch), rows=front_rows(students, launch))
        yield Section(title="Accuracy and cost", hint=hint, table=table, figure=figures.fronts(students, launch.objective))


def _leaderboard(study: Study, launch: Launch) -> Iterator[Section]:
    paths = list(study.space)
    columns = EXAMINED if launch.blind_metric == "exam_score" else LEADERBOARD
    rows = [
        [trial_label(trial, launch), *texts(row, columns[1:]), *searched_values(trial, paths)]
        for row, trial in zip(trial_rows(launch), launch.trials, strict=True)
    ]
    yield Section(
        title="Leaderboard",
        hint="Every trial, best first by what the search looked at. Each is judged by the epoch that the search would choose. "
        "Those with = cannot be told from the best: which of them stands higher is chance.",
        table=PageTable(headings=[_heading(name) for name in columns] + paths, rows=rows, marked=0 if launch.chosen else None),
    )


def _choice(launch: Launch) -> Iterator[Section]:
    if launch.accuracy_metric == "test_accuracy":
        yield Section(
            title="The blind choice",
            hint="Was the blind score a good judge? The further the star is from the top, the more the choice has cost.",
            figure=figures.blind_choice(launch),
        )


def _criteria(criteria: Sequence[CriterionRank]) -> Iterator[Section]:
    if criteria:
        yield Section(
            title="Criteria",
            hint="What else could have judged without data. Spearman: rank correlation with test accuracy over "
            f"{criteria[0].num_students} students, those of all trials and epochs. Wrong pairs: of those more than {100 * APART:g} "
            "points apart the share that it does not put in order. Regret: how far its pick lies below the best.",
            table=PageTable(headings=HEADINGS, rows=criteria_rows(criteria)),
        )


def _curves(study: Study, launch: Launch) -> Iterator[Section]:
    rungs = rungs_of(study.prune, launch.epochs)
    metrics = dict.fromkeys((launch.objective, launch.accuracy_metric))
    hint = "Pruned trials are faded, the chosen one is thick."
    for metric in metrics:
        shown = metric.replace("_", " ")
        yield Section(title=f"Curves: {shown}", hint=hint, figure=figures.learning_curves(launch, metric, rungs))
        hint = ""


def _what_mattered(study: Study, launch: Launch) -> Iterator[Section]:
    searched = to_optuna(study.space)
    completed = sum(trial.outcome in (Outcome.COMPLETED, Outcome.DIVERGED) for trial in launch.searched)
    hint = f"As Optuna draws it, from the {completed} trials that were not pruned: what the others would have reached is not known."
    for title, figure in figures.searched(as_study(launch, searched), list(study.space)):
        yield Section(title=title, hint=hint, figure=figure)
        hint = ""


def _pictures(launch: Launch, client: MlflowClient) -> Iterator[Section]:
    pictures = pictures_of(client, launch.chosen) if launch.chosen else []
    if pictures:
        hint = "What the student of the chosen trial has learned from: images that its generator made, never a real one."
        yield Section(title="Generated images", hint=hint, pictures=pictures)


def _robustness(launch: Launch) -> Iterator[Section]:
    metric = launch.accuracy_metric.replace("_", " ")
    yield Section(
        title="Robustness",
        hint=f"Who has no data stops blind: the {metric} at the last epoch, the best, and mean and deviation over all epochs and "
        "over the second half (as in PRE-DFKD, arXiv:2201.03019).",
        table=_table(trial_rows(launch), ROBUSTNESS),
    )


def _timeline(launch: Launch) -> Iterator[Section]:
    yield Section(
        title="Timeline",
        hint="A lane a place for trials: a node has as many as it ran trials at a time. Bars carry the trials' numbers.",
        figure=figures.timeline(launch),
    )


def _cost(study: Study, launch: Launch) -> Iterator[Section]:
    yield Section(title="Cost", lines=cost_lines(launch, study.resources))


def _troubles(launch: Launch) -> Iterator[Section]:
    troubled = [row for row in trial_rows(launch) if row["reason"] or row["retries"]]
    if troubled:
        yield Section(
            title="Troubles", hint="Trials that were retried, or ended for a reason of their own.", table=_table(troubled, COURSE)
        )


def cost_lines(launch: Launch, resources: ResourceConfig) -> list[str]:
    """What the launch took, in sentences: epochs, hours, and what pruning has saved."""
    seconds = sum(trial.seconds for trial in launch.trials)
    saved = sum(launch.length_of(trial) - trial.num_epochs for trial in launch.trials if trial.outcome is Outcome.PRUNED)
    lines = [f"{launch.epochs_run} epochs in {seconds / HOUR_S:.2f} hours of trials, {resources.cpus} CPU each"]
    if resources.gpus:
        lines.append(f"{seconds * resources.gpus / HOUR_S:.2f} GPU hours, {resources.gpus:g} GPU a trial")
    if saved and launch.epochs_run:
        hours = saved * seconds / launch.epochs_run / HOUR_S
        lines.append(f"pruning has saved {saved} epochs, about {hours:.2f} hours of trials")
    return lines


def _table(rows: Sequence[Row], columns: Sequence[str]) -> PageTable:
    return PageTable(headings=[_heading(name) for name in columns], rows=[texts(row, columns) for row in rows])


def _heading(column: str) -> str:
    return column.removeprefix("accuracy_").replace("_", " ").replace(" kl", " KL")
