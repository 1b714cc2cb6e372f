"""The report as one JSON value, for a script."""

from collections.abc import Sequence
from dataclasses import asdict
from typing import Any

from tuning.report.criteria import CriterionRank
from tuning.report.parquet import trial_rows
from tuning.results import Finalist, Launch, SweepSummary
from tuning.results.front import FrontStudent, front_of
from tuning.results.in_doubt import in_doubt


def launch_figures(launch: Launch) -> dict[str, Any]:
    """The launch as one value: study, name, figures, finalists and Pareto front of students, and `trials`, best first.

    `trials` are the rows of trials.parquet, each with its `point`.
    """
    chosen = launch.chosen
    return {
        "study": launch.study,
        "launch": launch.name,
        "run_id": launch.run_id,
        "objective": launch.objective,
        "chosen": None if chosen is None else chosen.number,
        "lineage": [stretch._asdict() for stretch in launch.lineage_of(chosen)] if chosen else [],
        "ties": [trial.number for trial in launch.ties],
        "finalists": [_finalist(finalist, launch) for finalist in launch.finalists],
        "front": [_front_student(student) for student in front_of(launch)],
        "epochs_run": launch.epochs_run,
        "epochs_unpruned": launch.epochs_unpruned,
        "in_doubt": [asdict(finding) for finding in in_doubt(launch)],
        "regret": launch.regret(),
        "rank_correlation": launch.rank_correlation(),
        "trials": [row | {"point": dict(trial.point)} for row, trial in zip(trial_rows(launch), launch.trials, strict=True)],
    }


def _front_student(student: FrontStudent) -> dict[str, Any]:
    return {
        "arch": student.arch,
        "trial": student.trial.number,
        "score": student.score,
        **student.costs,
        "on_front_of": list(student.on),
    }


def _finalist(finalist: Finalist, launch: Launch) -> dict[str, Any]:
    """The trial whose values it repeats, its runs, best first, and the mean and deviation of each figure over them."""
    figures = dict.fromkeys((launch.objective, "held_out_agreement", "test_accuracy"))
    over_seeds = {metric: found for metric in figures if (found := finalist.over_seeds(metric)) is not None}
    return {
        "finalist_of": finalist.of,
        "trials": [trial.number for trial in finalist.runs],
        **{metric: {"mean": mean, "std": deviation} for metric, (mean, deviation) in over_seeds.items()},
    }


def criteria_figures(ranks: Sequence[CriterionRank]) -> dict[str, Any]:
    """Under `criteria`, how well each criterion orders the launch's students."""
    return {"criteria": [asdict(rank) for rank in ranks]}


def sweep_figures(summary: SweepSummary) -> dict[str, Any]:
    """`launch_figures` of a sweep that has just ended, with what it cost and where its chosen student is."""
    own = {
        "study": summary.study.name,
        "model_uri": summary.model_uri,
        "undelivered": summary.num_undelivered,
        "elapsed_s": summary.elapsed_s,
        "earlier_s": summary.earlier_s,
        "tracking_share": summary.tracking_share,
    }
    return launch_figures(summary.launch) | own
