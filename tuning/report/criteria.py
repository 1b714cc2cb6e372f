"""Comparison of criteria: how well each would have ordered a launch's students, judged by their test accuracy."""

import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from mlflow import MlflowClient
from rich import box
from rich.table import Table

from cpsc.answers import Answers
from cpsc.criteria import CRITERIA, discriminating_agreement, peer_agreement
from cpsc.errors import CheckpointError
from cpsc.examiners import PROBE, Exam
from cpsc.metrics import agreements, overlaps
from tuning.display import percent
from tuning.results import Launch, TrialRecord
from tuning.results.from_mlflow import Track
from tuning.results.model import spearman
from tuning.tracking.client import FAILURES
from tuning.trial.files import ANSWERS_FILE

APART = 0.03
"""Difference in test accuracy below which a pair of students need not be told apart."""
FEWEST = 3
HEADINGS = ("criterion", "Spearman", "wrong pairs", "regret")


@dataclass(frozen=True)
class CriterionRank:
    """How well a criterion orders students.

    `spearman`: rank correlation with test accuracy; 0 if the criterion is the same for all students. `wrong_pairs`: of the pairs
    of students more than `APART` apart, the share that it orders wrongly or ties; None if no two are so far apart.
    `regret`: how far the test accuracy of the student that it picks lies below the best.
    """

    criterion: str
    num_students: int
    spearman: float
    wrong_pairs: float | None
    regret: float


@dataclass(frozen=True)
class _Run:
    """A trial's students that have both a test accuracy and answers, by epoch."""

    accuracies: Sequence[float]
    answers: Answers


def rank_criteria(client: MlflowClient, launch: Launch, track: Track = lambda trials, total: trials) -> list[CriterionRank]:
    """Rank every criterion on all students of `launch`, best first; empty if there are no labels, or too few students.

    Students whose answers were not kept, as by earlier versions, are left out. `track` wraps the trials to show progress while
    their answers are fetched.
    """
    labelled = [trial for trial in launch.trials if trial.curves.get("test_accuracy")]
    runs = [run for trial in track(labelled, len(labelled)) if (run := _run_of(client, trial)) is not None]
    runs = [run for run in runs if run.answers.teacher.shape == runs[0].answers.teacher.shape]  # a store may hold anything
    accuracies = np.array([accuracy for run in runs for accuracy in run.accuracies])
    if len(accuracies) < FEWEST or np.ptp(accuracies) == 0:
        return []
    found = [_rank(name, np.array(values), accuracies) for name, values in _values(runs).items()]
    return sorted(found, key=lambda rank: -rank.spearman)


def criteria_table(launch: Launch, ranks: Sequence[CriterionRank]) -> Table:
    """One row per criterion, as Markdown."""
    title = f"{launch.name}: criteria against test accuracy, {ranks[0].num_students} students"
    table = Table(title=title, title_justify="left", box=box.MARKDOWN)
    for heading in HEADINGS:
        table.add_column(heading, justify="left" if heading == HEADINGS[0] else "right")
    for row in criteria_rows(ranks):
        table.add_row(*row)
    return table


def criteria_rows(ranks: Sequence[CriterionRank]) -> list[list[str]]:
    """Texts under `HEADINGS`; regret in points."""
    return [
        [rank.criterion, f"{rank.spearman:.3f}", percent(rank.wrong_pairs), f"{100 * rank.regret:.2f} points"] for rank in ranks
    ]


def _run_of(client: MlflowClient, trial: TrialRecord) -> _Run | None:
    answers = _fetch(client, trial)
    if answers is None:
        return None
    # What a trial of a population measured before it copied another trial does not belong to the students whose answers it has.
    since = trial.exploits[-1].epoch if trial.exploits else 0
    accuracy = {epoch: value for epoch, value in trial.curves["test_accuracy"].items() if epoch > since}
    kept = [index for index, epoch in enumerate(answers.epochs) if epoch in accuracy]
    if not kept:
        return None
    epochs = tuple(answers.epochs[index] for index in kept)
    return _Run([accuracy[epoch] for epoch in epochs], replace(answers, epochs=epochs, students=answers.students[kept]))


def _fetch(client: MlflowClient, trial: TrialRecord) -> Answers | None:
    with tempfile.TemporaryDirectory(prefix="cpsc-") as folder:
        try:
            return Answers.load(Path(client.download_artifacts(trial.run_id, ANSWERS_FILE, folder)))
        except (*FAILURES, CheckpointError):
            return None  # not there yet, or of an earlier version


def _values(runs: Sequence[_Run]) -> Mapping[str, list[float]]:
    """By criterion, its value for every student."""
    asked = [run.answers.from_source(run.answers.sources == PROBE) for run in runs]
    alone = _examined(runs) | {
        name: [criterion(student, answers.teacher) for answers in asked for student in answers.students]
        for name, criterion in CRITERIA.items()
    }
    if len(runs) < 2:
        return alone
    students = [answers.students for answers in asked]
    among = {
        "agreement with other trials' students": peer_agreement(students),
        "agreement on discriminating images": discriminating_agreement(students, asked[0].teacher),
    }
    return alone | {name: [value for run in values for value in run] for name, values in among.items()}


def _examined(runs: Sequence[_Run]) -> dict[str, list[float]]:
    """The criteria that use examiners' images, if the launch has some."""
    if all((run.answers.sources == PROBE).all() for run in runs):
        return {}
    soft, hard, by_examiners = [], [], []
    for run in runs:
        answers = run.answers
        exam = Exam(answers.sources, answers.weights, fading=answers.fading)
        for student in answers.students:
            soft.append(exam.scores(overlaps(student, answers.teacher), own=answers.own))
            hard.append(exam.scores(agreements(student, answers.teacher), own=answers.own))
            by_examiners.append(exam.by_examiners(agreements(student, answers.teacher), own=answers.own))
    return {
        "exam score": [scores.for_choice for scores in soft],
        "exam score, held out": [scores.held_out for scores in soft],
        "exam score, all images": [scores.everywhere for scores in soft],
        "agreement in the exam, all images": [scores.everywhere for scores in hard],
        "agreement on examiners' images": by_examiners,
    }


def _rank(name: str, values: np.ndarray, accuracies: np.ndarray) -> CriterionRank:
    return CriterionRank(
        criterion=name,
        num_students=len(values),
        spearman=spearman(values.tolist(), accuracies.tolist()) or 0.0,
        wrong_pairs=_wrong_pairs(values, accuracies),
        regret=float(accuracies.max() - accuracies[int(np.argmax(values))]),
    )


def _wrong_pairs(values: np.ndarray, accuracies: np.ndarray) -> float | None:
    """Goes row by row: all pairs of ten thousand students at once would not fit into memory."""
    wrong = total = 0
    for value, accuracy in zip(values, accuracies, strict=True):
        worse = accuracies < accuracy - APART
        total += int(worse.sum())
        wrong += int((values[worse] >= value).sum())
    return wrong / total if total else None
