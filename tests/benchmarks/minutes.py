"""How good a student each method makes in a given number of minutes on one core, blind, with its published weights and preset.

``python -m tests.benchmarks.minutes --minutes 10 --seeds 0 1 2 --set dataset.path=FOLDER`` times some epochs of each method, trains
its students for as many epochs as fit into ten minutes of training, two runs at a time, and prints two tables: accuracy and cost
of the last student and of the one chosen blind, and test accuracy after some minutes. Measuring students on 10,000 labelled images,
which a user without data does not do, is not counted.

``--folder`` keeps all runs: finished ones are only read, interrupted ones continue. Seeds can be added later.
"""

import argparse
import statistics
import tempfile
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from itertools import product
from pathlib import Path
from typing import Any

import yaml

from cpsc.methods import METHODS
from tests.benchmarks.kept_sweep import kept_sweep
from tests.support.studies import ROOT
from tuning.api import load_results
from tuning.report.seed_table import POINTS, spread
from tuning.results import TrialRecord

AT_A_TIME = 2
ACCURACY = "test_accuracy"


@dataclass(frozen=True)
class Bench:
    """Where runs are kept and what they have in common: each is a sweep of one trial on one core."""

    folder: Path
    scale: str
    assignments: Sequence[str]

    def run(self, method: str, name: str, *, seed: int, epochs: int) -> "Run":
        """Train one student to its end, unless it is already there."""
        file = self.folder / f"{method}-{name}-seed-{seed}.yaml"
        settings = [f"storage={self.folder / 'runs'}", *self.assignments]
        if not file.exists():
            file.write_text(yaml.safe_dump(self._study(file.stem, method, seed=seed, epochs=epochs)))
        study, _ = kept_sweep(file, settings, cwd=self.folder)
        launch = load_results(study, quiet=True)
        return Run(launch.trials[0], launch.objective)

    def _study(self, name: str, method: str, *, seed: int, epochs: int) -> dict[str, Any]:
        """Its only trial has the published values, so the space does not matter."""
        return {
            "name": name,
            "scale": self.scale,
            "config": {"method": method, "epochs": epochs, "seed": seed},
            "space": {"student.lr": {"loguniform": [1e-4, 1.0]}},
            "start": [{}],
            "objective": "probe_overlap",  # examiners would be trained anew for each run
            "search": {"sampler": "random", "num_trials": 1},
            "prune": {"scheduler": "none"},
        }


@dataclass(frozen=True)
class Run:
    """A finished run: its trial, and the metric that its epoch is chosen by."""

    trial: TrialRecord
    objective: str

    @property
    def last(self) -> float:
        return self.at(self.trial.num_epochs)

    @property
    def chosen(self) -> float:
        epoch = self.trial.best_epoch(self.objective)
        assert epoch is not None, f"trial {self.trial.number} has no result"
        return self.at(epoch)

    @property
    def seconds_an_epoch(self) -> float:
        """Training time of the last epoch, without measuring the student."""
        return self.trial.curves["train_s"][self.trial.num_epochs]

    @property
    def replay_bytes(self) -> float:
        return max(self.trial.curves.get("replay_bytes", {0: 0.0}).values())

    def at(self, epoch: int) -> float:
        """Test accuracy in percent."""
        return POINTS * self.trial.curves[ACCURACY][epoch]

    def after(self, seconds: float) -> float | None:
        """Test accuracy of the last student finished within `seconds` of training; None if there was none."""
        passed, found = 0.0, None
        for epoch in sorted(self.trial.curves["train_s"]):
            passed += self.trial.curves["train_s"][epoch]
            if passed > seconds:
                break
            found = self.at(epoch)
        return found

    def total(self, metric: str) -> float:
        return sum(self.trial.curves[metric].values())


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--methods", nargs="+", default=list(METHODS), choices=METHODS)
    parser.add_argument("--scale", default="cifar10_two_cores")
    parser.add_argument("--minutes", type=float, default=10.0)
    parser.add_argument("--pace-epochs", type=int, default=2, help="epochs by whose last a method is timed beforehand")
    parser.add_argument("--at", type=float, nargs="+", default=[5.0, 10.0], help="minutes after which test accuracy is shown")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--folder", type=Path)
    parser.add_argument("--set", action="append", default=[], dest="assignments", help="settings of all studies, as in cpsc-tune")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="cpsc-bench-") as temporary:
        folder = (options.folder or Path(temporary)).absolute()
        folder.mkdir(parents=True, exist_ok=True)
        scales = folder / "scales"
        if not scales.exists():
            scales.symlink_to(ROOT / "search_spaces" / "scales")
        bench = Bench(folder, options.scale, [*options.assignments, "resources.cpus=1"])
        print_tables(all_runs(bench, options.methods, options.seeds, options.minutes, pace_epochs=options.pace_epochs), options.at)


def all_runs(
    bench: Bench, methods: Sequence[str], seeds: Sequence[int], minutes: float, *, pace_epochs: int
) -> dict[str, list[Run]]:
    """Runs of each method, a seed each, two at a time. Teacher and probe set are made by the first, alone."""

    def pace(method: str) -> float:
        return bench.run(method, "pace", seed=0, epochs=pace_epochs).seconds_an_epoch

    def student(job: tuple[str, int]) -> Run:
        method, seed = job
        epochs = max(1, int(60 * minutes / paces[method]))
        run = bench.run(method, f"{minutes:g}-minutes", seed=seed, epochs=epochs)
        print(f"{method}, seed {seed}: {run.last:.2f} % after {epochs} epochs, {run.chosen:.2f} % chosen blind", flush=True)
        return run

    bench.run(methods[0], "first", seed=0, epochs=1)
    with ThreadPoolExecutor(AT_A_TIME) as pool:
        paces = dict(zip(methods, pool.map(pace, methods), strict=True))
        jobs = [(method, seed) for seed, method in product(seeds, methods)]
        runs = list(pool.map(student, jobs))
    return {method: [run for job, run in zip(jobs, runs, strict=True) if job[0] == method] for method in methods}


def print_tables(runs: Mapping[str, Sequence[Run]], minutes: Sequence[float]) -> None:
    headings = "epochs", "last", "chosen blind", "seconds", "for images", "for the student", "thousand image-steps for images"
    print(f"\n| {' | '.join(['method', *headings, 'thousand for the student', 'replay MB'])} |\n|---{'|---' * 9}|")
    for method, own in runs.items():
        print(cost_row(method, own))
    print(f"\n| test accuracy after minutes | {' | '.join(f'{minute:g}' for minute in minutes)} |\n|---{'|---' * len(minutes)}|")
    for method, own in runs.items():
        print(f"| {method} | {' | '.join(spread_after(own, minute) for minute in minutes)} |")


def spread_after(runs: Sequence[Run], minutes: float) -> str:
    """Test accuracy of the runs that had a student by then; a dash if none had."""
    found = [value for run in runs if (value := run.after(60 * minutes)) is not None]
    return spread(found) if found else "-"


def cost_row(method: str, runs: Sequence[Run]) -> str:
    """A table row for a method: its last student, the one chosen blind, and their cost."""
    epochs = sorted({run.trial.num_epochs for run in runs})
    seconds, images, student = (mean_total(runs, metric) for metric in ("train_s", "generation_s", "distillation_s"))
    made, learned = (mean_total(runs, metric) / 1000 for metric in ("generation_images", "distillation_images"))
    kept = max(run.replay_bytes for run in runs) / 1e6
    accuracies = spread([run.last for run in runs]), spread([run.chosen for run in runs])
    cells = [" to ".join(map(str, epochs[:: max(1, len(epochs) - 1)])), *accuracies]
    cells += [f"{value:.0f}" for value in (seconds, images, student, made, learned)]
    return f"| {' | '.join([method, *cells, f'{kept:.1f}'])} |"


def mean_total(runs: Sequence[Run], metric: str) -> float:
    return statistics.fmean(run.total(metric) for run in runs)


if __name__ == "__main__":
    main()
