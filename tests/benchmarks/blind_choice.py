"""How well students can be chosen without images: every criterion against test accuracy, over searches with several seeds.

``python -m tests.benchmarks.blind_choice digits`` runs the study with each seed, all trials to the end, with the exam score as
its objective. It prints

- for each criterion, over the searches: Spearman's rank correlation with test accuracy over all students, the share of wrong pairs
  among those more than 3 points apart, and the regret of the choice;
- for each score, how many of the three trials with the best test accuracy ASHA would have pruned by it.

``--folder`` keeps the searches, so that an interrupted one continues and a finished one is only read; ``--set`` changes the study,
as in ``cpsc-tune sweep``.
"""

import argparse
import statistics
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path

import pandas as pd

from tests.benchmarks.kept_sweep import kept_sweep
from tuning.api import criteria_frame, load_results
from tuning.launch import LaunchHistory, TrialHistory
from tuning.results import Launch
from tuning.search.asha import ResumableAsha
from tuning.study import Study

SCORES = ("exam_score", "probe_agreement", "test_accuracy")
BEST = 3


def searched(study: str, seed: int, folder: Path, assignments: Sequence[str]) -> tuple[Study, Launch]:
    """The search with that seed; run to its end unless it is already there."""
    settings = [f"storage={folder / f'seed-{seed}'}", f"search.seed={seed}", "objective=exam_score", "prune.scheduler=none"]
    settings += assignments
    loaded, said = kept_sweep(study, settings, cwd=folder)
    print("\n".join(f"seed {seed}: {line}" for line in said.splitlines() if " gave " in line or line.startswith("probe set: ")))
    return loaded, load_results(loaded, quiet=True)


def lost_by(launch: Launch, study: Study, score: str) -> int:
    """How many of the best `BEST` trials ASHA prunes by the running best of `score`."""
    last = {trial.number: max(trial.curves["test_accuracy"].values()) for trial in launch.trials if trial.curves["test_accuracy"]}
    best = sorted(last, key=lambda number: -last[number])[:BEST]
    return len(set(best) & pruned_by(launch, study, score))


def pruned_by(launch: Launch, study: Study, score: str) -> set[int]:
    """The trials that ASHA stops if it sees all results in the order in which they arrived."""
    prune = study.prune.model_copy(update={"scheduler": "asha"})
    asha = ResumableAsha(prune, epochs=launch.epochs, metric=f"best_{score}")
    history = LaunchHistory()
    results = []
    for trial in launch.trials:
        history.trials[trial.number] = TrialHistory(number=trial.number, point=dict(trial.point))
        highest = 0.0
        for epoch, value in sorted(trial.curves[score].items()):
            highest = max(highest, value)
            if epoch < launch.epochs:  # at the last one ASHA stops every trial
                results.append((trial.course.reported[epoch], trial.number, epoch, highest))
    history.results = [(number, epoch, value) for _, number, epoch, value in sorted(results)]
    return asha.restore_rungs(history)


def print_criteria(frames: Sequence[pd.DataFrame]) -> None:
    """Print medians and extremes over the searches, best criterion first."""
    found = pd.concat(frames)
    rows = []
    for criterion, group in found.groupby("criterion"):
        rows.append(
            (
                float(group.spearman.median()),
                f"| {criterion} | {group.spearman.median():.3f} ({group.spearman.min():.3f}-{group.spearman.max():.3f}) "
                f"| {100 * group.wrong_pairs.median():.2f} % ({100 * group.wrong_pairs.max():.2f} %) "
                f"| {100 * group.regret.mean():.2f} ({100 * group.regret.max():.2f}) |",
            )
        )
    students = ", ".join(str(frame.num_students.iloc[0]) for frame in frames)
    print(f"\n{len(frames)} searches, {students} students\n")
    print("| criterion | Spearman, median (range) | wrong pairs, median (worst) | regret in points, mean (worst) |")
    print("|---|---|---|---|")
    print("\n".join(row for _, row in sorted(rows, reverse=True)))


def print_pruning(lost: Mapping[str, Sequence[int]]) -> None:
    """Print what ASHA loses by each score."""
    print(f"\n| ASHA by | of the best {BEST} trials pruned, by search | mean |")
    print("|---|---|---|")
    for score, counts in lost.items():
        print(f"| {score.replace('_', ' ')} | {', '.join(map(str, counts))} | {statistics.mean(counts):.2f} |")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("study")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--folder", type=Path)
    parser.add_argument("--set", action="append", default=[], dest="assignments")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="cpsc-bench-") as temporary:
        folder = (options.folder or Path(temporary)).absolute()
        folder.mkdir(parents=True, exist_ok=True)
        frames: list[pd.DataFrame] = []
        lost: dict[str, list[int]] = {score: [] for score in SCORES}
        for seed in options.seeds:
            study, launch = searched(options.study, seed, folder, options.assignments)
            frames.append(criteria_frame(study, quiet=True))
            for score in SCORES:
                lost[score].append(lost_by(launch, study, score))
        print_criteria(frames)
        print_pruning(lost)


if __name__ == "__main__":
    main()
