"""Finished runs of the bench `minutes`, and the file that keeps them, to which later runs are added."""

import csv
import statistics
import threading
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

from cpsc.atomic_file import atomic_path
from tuning.report.seed_table import POINTS, spread
from tuning.results import TrialRecord

ACCURACY = "test_accuracy"
COSTS = ("train_s", "generation_s", "distillation_s", "generation_images", "distillation_images", "replay_bytes")
HEADINGS = ("minutes", "method", "seed", "epoch", "chosen", ACCURACY, *COSTS)


class RunKey(NamedTuple):
    """Which run it is: how many minutes of training it was planned for, by which method, and from which seed."""

    minutes: float
    method: str
    seed: int


@dataclass(frozen=True)
class StudentRun:
    """A finished run: its curves by metric and epoch, and the epoch whose student was chosen blind."""

    key: RunKey
    chosen_epoch: int
    curves: Mapping[str, Mapping[int, float]]

    @property
    def num_epochs(self) -> int:
        return max(self.curves[ACCURACY])

    @property
    def last(self) -> float:
        return self.at(self.num_epochs)

    @property
    def chosen(self) -> float:
        return self.at(self.chosen_epoch)

    @property
    def seconds_an_epoch(self) -> float:
        """Training time of the last epoch, without measuring the student."""
        return self.curves["train_s"][self.num_epochs]

    def at(self, epoch: int) -> float:
        """Test accuracy in percent."""
        return POINTS * self.curves[ACCURACY][epoch]

    def after(self, seconds: float) -> float | None:
        """Test accuracy of the last student finished within `seconds` of training; None if there was none."""
        passed, found = 0.0, None
        for epoch in sorted(self.curves["train_s"]):
            passed += self.curves["train_s"][epoch]
            if passed > seconds:
                break
            found = self.at(epoch)
        return found

    def total(self, metric: str) -> float:
        return sum(self.curves[metric].values())


def run_of(trial: TrialRecord, objective: str, key: RunKey) -> StudentRun:
    """The run that a finished trial is, whose student is chosen by `objective`."""
    chosen = trial.best_epoch(objective)
    assert chosen is not None, f"{key.method}, seed {key.seed}: has no result"
    epochs = trial.curves[ACCURACY]
    curves = {name: {epoch: trial.curves.get(name, {}).get(epoch, 0.0) for epoch in epochs} for name in (ACCURACY, *COSTS)}
    return StudentRun(key, chosen, curves)


class RunRecord:
    """Finished runs by key, kept in a CSV file with a row an epoch, if there is one. Threads may add to it."""

    def __init__(self, path: Path | None) -> None:
        self._path = path
        self._lock = threading.Lock()
        self.runs = _read(path) if path is not None and path.exists() else {}

    def add(self, run: StudentRun) -> None:
        with self._lock:
            self.runs[run.key] = run
            if self._path is not None:
                with atomic_path(self._path) as new:
                    _write(new, [self.runs[key] for key in sorted(self.runs)])

    def epochs_of(self, method: str, minutes: float) -> int | None:
        """How many epochs its runs of so many minutes have; None if there are none."""
        return next((run.num_epochs for key, run in self.runs.items() if key[:2] == (minutes, method)), None)


def _read(path: Path) -> dict[RunKey, StudentRun]:
    rows = defaultdict(list)
    with path.open(encoding="utf-8", newline="") as handle:
        for row in csv.DictReader(handle):
            rows[RunKey(float(row["minutes"]), row["method"], int(row["seed"]))].append(row)
    return {key: _run_in(key, own) for key, own in rows.items()}


def _run_in(key: RunKey, rows: Sequence[Mapping[str, str]]) -> StudentRun:
    chosen = next(int(row["epoch"]) for row in rows if row["chosen"] == "1")
    return StudentRun(key, chosen, {name: {int(row["epoch"]): float(row[name]) for row in rows} for name in (ACCURACY, *COSTS)})


def _write(path: Path, runs: Sequence[StudentRun]) -> None:
    with path.open("w", encoding="utf-8", newline="") as handle:
        writer = csv.writer(handle, lineterminator="\n")
        writer.writerow(HEADINGS)
        for run in runs:
            for epoch in sorted(run.curves[ACCURACY]):
                minutes, method, seed = run.key
                measured = [f"{run.curves[name][epoch]:.6g}" for name in (ACCURACY, *COSTS)]
                writer.writerow([f"{minutes:g}", method, seed, epoch, int(epoch == run.chosen_epoch), *measured])


def print_tables(runs: Mapping[str, Sequence[StudentRun]], minutes: Sequence[float]) -> None:
    """By method: accuracies and costs, and test accuracy after some `minutes` of training."""
    headings = "epochs", "last", "chosen blind", "seconds", "for images", "for the student", "thousand image-steps for images"
    print(f"\n| {' | '.join(['method', *headings, 'thousand for the student', 'replay MB'])} |\n|---{'|---' * 9}|")
    for method, own in runs.items():
        print(cost_row(method, own))
    print(f"\n| test accuracy after minutes | {' | '.join(f'{minute:g}' for minute in minutes)} |\n|---{'|---' * len(minutes)}|")
    for method, own in runs.items():
        print(f"| {method} | {' | '.join(spread_after(own, minute) for minute in minutes)} |")


def spread_after(runs: Sequence[StudentRun], minutes: float) -> str:
    """Test accuracy of the runs that had a student by then; a dash if none had."""
    found = [value for run in runs if (value := run.after(60 * minutes)) is not None]
    return spread(found) if found else "-"


def cost_row(method: str, runs: Sequence[StudentRun]) -> str:
    """A table row for a method: its last student, the one chosen blind, and their cost."""
    epochs = sorted({run.num_epochs for run in runs})
    seconds, images, student = (_mean_total(runs, metric) for metric in ("train_s", "generation_s", "distillation_s"))
    made, learned = (_mean_total(runs, metric) / 1000 for metric in ("generation_images", "distillation_images"))
    kept = max(max(run.curves["replay_bytes"].values()) for run in runs) / 1e6
    accuracies = spread([run.last for run in runs]), spread([run.chosen for run in runs])
    cells = [" to ".join(map(str, epochs[:: max(1, len(epochs) - 1)])), *accuracies]
    cells += [f"{value:.0f}" for value in (seconds, images, student, made, learned)]
    return f"| {' | '.join([method, *cells, f'{kept:.1f}'])} |"


def _mean_total(runs: Sequence[StudentRun], metric: str) -> float:
    return statistics.fmean(run.total(metric) for run in runs)
