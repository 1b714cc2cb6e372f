"""A launch as a page: what was chosen and how good it is, the course of every trial, which parameters mattered, the cost."""

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
from tuning.report.links import RunLink
from tuning.report.overview import overview
from tuning.report.page import Cell, Page, PageTable, Section, cells, write_page
from tuning.report.parameters import completed_in, completed_needed, importances, parallel_coordinates, slices
from tuning.report.parquet import Row, trial_rows
from tuning.report.pictures import pictures_of
from tuning.report.tooltips import tooltips
from tuning.report.traces import roles_in
from tuning.results import Launch, TrialRecord
from tuning.results.front import front_of
from tuning.results.in_doubt import in_doubt
from tuning.results.leaderboard import trial_label
from tuning.results.trial_record import number_in
from tuning.search.asha import rungs_of
from tuning.study import Study
from tuning.study.config import ResourceConfig

LEADERBOARD = ("trial", "outcome", "epochs", "best_epoch", "probe_agreement", "probe_kl", "test_accuracy", "seconds")
EXAMINED = ("trial", "outcome", "epochs", "best_epoch", "exam_score", "held_out_agreement", *LEADERBOARD[4:])
"""Columns of the leaderboard if students are chosen by examiners."""
ROBUSTNESS = ("trial", "accuracy_last", "accuracy_best", "accuracy_mean", "accuracy_std", "accuracy_late_mean", "accuracy_late_std")
COURSE = ("trial", "outcome", "node", "started", "ended", "retries", "reason")
HOUR_S = 3600


def write_study_page(
    path: Path,
    study: Study,
    launch: Launch,
    criteria: Sequence[CriterionRank],
    client: MlflowClient,
    display: Display,
    link: RunLink = lambda trial: "",
) -> None:
    """Write the launch's page. `study`: as the launch ran it; `link`: where MLflow's UI shows a trial's run."""
    parts = _parts(study, launch, criteria, client, link)
    page = Page(
        title=f"{study.name}: {launch.name}" if launch.name != study.name else study.name,
        subtitle=f"{len(launch.trials)} trial{'' if len(launch.trials) == 1 else 's'} by {study.search.sampler}, "
        f"pruning {study.prune.scheduler}, {launch.epochs} epochs per trial{_as_of(launch)}",
        lead=overview(study, launch),
        tooltips=tooltips(launch, list(study.space)),
        sections=[section for part in display.track("drawing the page", parts, len(parts)) for section in part],
    )
    write_page(path, page)


def _as_of(launch: Launch) -> str:
    if launch.is_over:
        return ""
    latest = max((moment for trial in launch.trials for moment in trial.course.reported.values()), default=None)
    return ", still under way" + ("" if latest is None else f", latest result {figures.utc(latest):%Y-%m-%d %H:%M} UTC")


def _parts(
    study: Study, launch: Launch, criteria: Sequence[CriterionRank], client: MlflowClient, link: RunLink
) -> Sequence[Iterator[Section]]:
    """The parts in the page's order; each is drawn lazily, when its sections are asked for."""
    return [
        _doubts(launch),
        _findings(study, launch),
        _finalists(study, launch),
        _front(launch),
        _leaderboard(study, launch, link),
        _history(launch),
        _choice(launch),
        _criteria(criteria),
        _curves(study, launch),
        _importances(study, launch),
        _slices(study, launch),
        _parallel(study, launch),
        _pictures(launch, client),
        _robustness(launch, link),
        _timeline(launch),
        _cost(study, launch),
        _troubles(launch, link),
    ]


def _doubts(launch: Launch) -> Iterator[Section]:
    if found := in_doubt(launch):
        hint = "Why the result below may be wrong: each figure with its floor, what it means, and what to try."
        yield Section(title="In doubt", hint=hint, lines=list(map(str, found)))


def _findings(study: Study, launch: Launch) -> Iterator[Section]:
    yield Section(title="What it found", lines=summary_lines(launch, list(study.space)))


def _finalists(study: Study, launch: Launch) -> Iterator[Section]:
    if launch.finalists:
        paths = list(study.space)
        rows = finalist_rows(launch)
        values = [searched_values(finalist.runs[0], paths) for finalist in launch.finalists]
        yield Section(
            title="Finalists",
            hint="The search's best points, run again under new seeds. The mean over seeds decides, because the best score of a "
            "search is partly luck. Finalists with = cannot be told from the best (Welch's test, 5 %).",
            table=PageTable.of_texts(
                [*finalist_headings(launch), *paths], [[*row, *more] for row, more in zip(rows, values, strict=True)], marked=0
            ),
        )


def _front(launch: Launch) -> Iterator[Section]:
    if students := front_of(launch):
        hint = (
            "The best student of each architecture against what it costs. No other student is both better and cheaper than one on "
            "the front. `export --at macs=2e7` takes the best student within that number of multiply-adds."
        )
        table = PageTable.of_texts(front_headings(launch), front_rows(students, launch))
        yield Section(title="Accuracy and cost", hint=hint, table=table, charts=[figures.fronts(students, launch.objective)])


def _leaderboard(study: Study, launch: Launch, link: RunLink) -> Iterator[Section]:
    if not launch.trials:
        return
    paths = list(study.space)
    columns = EXAMINED if launch.blind_metric == "exam_score" else LEADERBOARD
    rows = [
        [_trial_cell(trial, launch, link), *cells(row, columns[1:]), *_values(trial, paths)]
        for row, trial in zip(trial_rows(launch), launch.trials, strict=True)
    ]
    linked = " Numbers link to the trials' runs in MLflow." if any(row[0].href for row in rows) else ""
    yield Section(
        title="Leaderboard",
        hint="Every trial, best first by the search's objective. Each is judged by its best epoch, which the search would choose. "
        f"Trials with = cannot be told from the best: which of them ranks higher is chance.{linked}",
        table=PageTable(
            headings=[_heading(name) for name in columns] + paths,
            rows=rows,
            marked=0 if launch.chosen else None,
            choice=columns.index("outcome"),
        ),
    )


def _trial_cell(trial: TrialRecord, launch: Launch, link: RunLink) -> Cell:
    chosen = " ★ chosen" if trial is launch.chosen else ""
    return Cell(trial_label(trial, launch) + chosen, trial.number, href=link(trial), anchor=f"trial-{trial.number}")


def _values(trial: TrialRecord, paths: Sequence[str]) -> list[Cell]:
    texts = searched_values(trial, paths)
    return [Cell(text, number_in(trial.params.get(path, ""))) for path, text in zip(paths, texts, strict=True)]


def _history(launch: Launch) -> Iterator[Section]:
    if launch.searched and launch.chosen:
        yield Section(
            title="Best so far",
            hint="Each trial's result, and the best of the search so far as a step. A pruned trial is shown at what it reached.",
            charts=[figures.history(launch)],
        )


def _choice(launch: Launch) -> Iterator[Section]:
    if launch.accuracy_metric == "test_accuracy":
        yield Section(
            title="The blind choice",
            hint="Was the blind score a good judge? The further the star is below the top, the more accuracy the choice lost.",
            charts=[figures.blind_choice(launch)],
        )


def _criteria(criteria: Sequence[CriterionRank]) -> Iterator[Section]:
    if criteria:
        yield Section(
            title="Criteria",
            hint="Ways to judge students without data, compared. Spearman: rank correlation with test accuracy over "
            f"{criteria[0].num_students} students, of all trials and epochs. Wrong pairs: share of the pairs more than "
            f"{100 * APART:g} points apart that the criterion orders wrongly. Regret: how far its pick lies below the best.",
            table=PageTable.of_texts(HEADINGS, criteria_rows(criteria)),
        )


def _curves(study: Study, launch: Launch) -> Iterator[Section]:
    rungs = rungs_of(study.prune, launch.epochs)
    metrics = dict.fromkeys((launch.objective, launch.accuracy_metric))
    hint = "The mark at the end of a curve shows how the trial ended; the chosen one is thick, with a star at its best epoch."
    for metric in metrics:
        if any(trial.curves.get(metric) for trial in launch.trials):
            yield Section(
                title=f"Curves: {metric.replace('_', ' ')}", hint=hint, charts=[figures.learning_curves(launch, metric, rungs)]
            )
            hint = ""


def _importances(study: Study, launch: Launch) -> Iterator[Section]:
    completed, needed = completed_in(launch), completed_needed(study.space)
    if len(study.space) < 2 or not launch.trials:
        return  # one parameter has all the importance
    if completed < needed:
        hint = (
            f"Importances of {len(study.space)} parameters need {needed} completed trials; there are {completed}, "
            f"so {needed - completed} are missing. With fewer, it is chance which parameter comes first."
        )
        yield Section(title="Importances", hint=hint)
    elif chart := importances(launch, study.space):
        hint = (
            f"How much of the differences between the {completed} completed trials each parameter explains. Pruned trials are "
            "left out: what they would have reached is not known."
        )
        yield Section(title="Importances", hint=hint, charts=[chart])


def _slices(study: Study, launch: Launch) -> Iterator[Section]:
    if charts := slices(launch, study.space):
        yield Section(
            title="Slices",
            hint=f"Each trial's value of a parameter against its {launch.objective.replace('_', ' ')}. A pruned trial is shown at "
            "what it had reached when it was stopped, which is less than its values might reach.",
            key=roles_in([trial for trial in launch.searched if trial.best_epoch(launch.objective) is not None], launch),
            charts=charts,
        )


def _parallel(study: Study, launch: Launch) -> Iterator[Section]:
    chart = parallel_coordinates(launch, study.space) if len(study.space) > 1 else None
    if chart:
        yield Section(
            title="Parallel coordinates",
            hint="One line per trial, each parameter on its own scale. Click a name below the chart to hide its lines.",
            charts=[chart],
        )


def _pictures(launch: Launch, client: MlflowClient) -> Iterator[Section]:
    pictures = pictures_of(client, launch.chosen) if launch.chosen else []
    if pictures:
        hint = "What the student of the chosen trial learned from: synthetic images, never a real one."
        if not any(picture.rows for picture in pictures):
            hint += " Each row is a class; the version that made them did not record the names."
        yield Section(title="Generated images", hint=hint, pictures=pictures)


def _robustness(launch: Launch, link: RunLink) -> Iterator[Section]:
    rows = [row for row in trial_rows(launch) if "accuracy_last" in row]
    if not rows:
        return
    metric = launch.accuracy_metric.replace("_", " ")
    yield Section(
        title="Robustness",
        hint=f"Without labels you cannot pick the best epoch: the {metric} at the last epoch, at the best, and its mean and "
        "deviation over all epochs and over the second half (as in PRE-DFKD, arXiv:2201.03019).",
        table=_table(rows, ROBUSTNESS, launch, link),
    )


def _timeline(launch: Launch) -> Iterator[Section]:
    if any(trial.course.started is not None for trial in launch.trials):
        yield Section(
            title="Timeline",
            hint="Each node has as many lanes as it ran trials at a time. Bars are labelled with the trials' numbers; "
            "the bar of a running trial ends at its latest result.",
            charts=[figures.timeline(launch)],
        )


def _cost(study: Study, launch: Launch) -> Iterator[Section]:
    yield Section(title="Cost", lines=cost_lines(launch, study.resources))


def _troubles(launch: Launch, link: RunLink) -> Iterator[Section]:
    troubled = [row for row in trial_rows(launch) if row["reason"] or row["retries"]]
    if troubled:
        yield Section(
            title="Troubles",
            hint="Trials that were retried, or for whose end a reason was recorded.",
            table=_table(troubled, COURSE, launch, link),
        )


def cost_lines(launch: Launch, resources: ResourceConfig) -> list[str]:
    """What the launch took, in sentences: epochs, hours, and what pruning saved."""
    seconds = sum(trial.seconds for trial in launch.trials)
    saved = sum(launch.length_of(trial) - trial.num_epochs for trial in launch.trials if trial.outcome is Outcome.PRUNED)
    lines = [f"{launch.epochs_run} epochs in {seconds / HOUR_S:.2f} hours of trials, {resources.cpus} CPU each"]
    if resources.gpus:
        lines.append(f"{seconds * resources.gpus / HOUR_S:.2f} GPU hours, {resources.gpus:g} GPU per trial")
    if saved and launch.epochs_run:
        hours = saved * seconds / launch.epochs_run / HOUR_S
        lines.append(f"pruning saved {saved} epochs, about {hours:.2f} hours of trials")
    return lines


def _table(rows: Sequence[Row], columns: Sequence[str], launch: Launch, link: RunLink) -> PageTable:
    links = {trial.number: link(trial) for trial in launch.trials}
    numbers = [Cell(str(row["trial"]), row["trial"], href=links[row["trial"]]) for row in rows]
    return PageTable(
        headings=[_heading(name) for name in columns],
        rows=[[number, *cells(row, columns[1:])] for number, row in zip(numbers, rows, strict=True)],
    )


def _heading(column: str) -> str:
    return column.removeprefix("accuracy_").replace("_", " ").replace(" kl", " KL")
