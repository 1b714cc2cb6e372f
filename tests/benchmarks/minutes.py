"""How good a student each method makes in a given number of minutes on one core, blind, with its published weights and preset.

``python -m tests.benchmarks.minutes --minutes 10 --seeds 0 1 2 --set dataset.path=FOLDER`` times some epochs of each method, trains
its students for as many epochs as fit into ten minutes of training, two runs at a time, and prints two tables: accuracy and cost
of the last student and of the one chosen blind, and test accuracy after some minutes. Measuring students on 10,000 labelled images,
which a user without data does not do, is not counted.

``--folder`` keeps all sweeps: finished ones are only read, interrupted ones continue. ``--record`` keeps the figures of finished
runs in a file: those are not run again, and other seeds are trained for as many epochs.
"""

import argparse
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
from tests.benchmarks.student_runs import RunKey, RunRecord, StudentRun, print_tables, run_of
from tests.support.studies import ROOT
from tuning.api import load_results

AT_A_TIME = 2


@dataclass(frozen=True)
class Bench:
    """Where sweeps are kept and what they have in common: each has one trial on one core."""

    folder: Path
    scale: str
    assignments: Sequence[str]

    def run(self, key: RunKey, name: str, *, epochs: int) -> StudentRun:
        """Train one student to its end, unless it is already there."""
        file = self.folder / f"{key.method}-{name}-seed-{key.seed}.yaml"
        settings = [f"storage={self.folder / 'runs'}", *self.assignments]
        if not file.exists():
            file.write_text(yaml.safe_dump(self._study(file.stem, key, epochs)))
        study, _ = kept_sweep(file, settings, cwd=self.folder)
        launch = load_results(study, quiet=True)
        return run_of(launch.trials[0], launch.objective, key)

    def _study(self, name: str, key: RunKey, epochs: int) -> dict[str, Any]:
        """Its only trial has the published values, so the space does not matter."""
        return {
            "name": name,
            "scale": self.scale,
            "config": {"method": key.method, "epochs": epochs, "seed": key.seed},
            "space": {"student.lr": {"loguniform": [1e-4, 1.0]}},
            "start": [{}],
            "objective": "probe_overlap",  # examiners would be trained anew for each run
            "search": {"sampler": "random", "num_trials": 1},
            "prune": {"scheduler": "none"},
        }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--methods", nargs="+", default=list(METHODS), choices=METHODS)
    parser.add_argument("--scale", default="cifar10_two_cores")
    parser.add_argument("--minutes", type=float, default=10.0)
    parser.add_argument("--pace", type=method_and_seconds, nargs="+", default=[], help="METHOD=SECONDS an epoch; others are timed")
    parser.add_argument("--pace-epochs", type=int, default=2, help="epochs by whose last a method is timed beforehand")
    parser.add_argument("--at", type=float, nargs="+", default=[5.0, 10.0], help="minutes after which test accuracy is shown")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--folder", type=Path)
    parser.add_argument("--record", type=Path, help="a CSV file")
    parser.add_argument("--set", action="append", default=[], dest="assignments", help="settings of all studies, as in cpsc-tune")
    options = parser.parse_args()
    record = RunRecord(options.record)
    keys = [RunKey(options.minutes, method, seed) for seed, method in product(options.seeds, options.methods)]
    with tempfile.TemporaryDirectory(prefix="cpsc-bench-") as temporary:
        folder = (options.folder or Path(temporary)).absolute()
        folder.mkdir(parents=True, exist_ok=True)
        scales = folder / "scales"
        if not scales.exists():
            scales.symlink_to(ROOT / "search_spaces" / "scales")
        bench = Bench(folder, options.scale, [*options.assignments, "resources.cpus=1"])
        if missing := [key for key in keys if key not in record.runs]:
            run_missing(bench, missing, record, dict(options.pace), pace_epochs=options.pace_epochs)
    print_tables({method: [record.runs[key] for key in keys if key.method == method] for method in options.methods}, options.at)


def method_and_seconds(text: str) -> tuple[str, float]:
    method, _, seconds = text.partition("=")
    if method not in METHODS:
        raise argparse.ArgumentTypeError(f"{method!r} is no method")
    return method, float(seconds)


def run_missing(bench: Bench, keys: Sequence[RunKey], record: RunRecord, known: Mapping[str, float], *, pace_epochs: int) -> None:
    """Add these runs to the record, two at a time. Teacher and probe set are made by the first, alone."""

    def pace(method: str) -> float:
        return bench.run(RunKey(0.0, method, 0), "pace", epochs=pace_epochs).seconds_an_epoch

    def student(key: RunKey) -> None:
        epochs = record.epochs_of(key.method, key.minutes) or max(1, int(60 * key.minutes / paces[key.method]))
        run = bench.run(key, f"{key.minutes:g}-minutes", epochs=epochs)
        record.add(run)
        print(f"{key.method}, seed {key.seed}: {run.last:.2f} % after {epochs} epochs, {run.chosen:.2f} % chosen blind", flush=True)

    bench.run(RunKey(0.0, keys[0].method, 0), "first", epochs=1)
    untimed = {key.method for key in keys if record.epochs_of(key.method, key.minutes) is None} - known.keys()
    with ThreadPoolExecutor(AT_A_TIME) as pool:
        timed = dict(zip(sorted(untimed), pool.map(pace, sorted(untimed)), strict=True))
        paces = {**known, **timed}
        list(pool.map(student, keys))


if __name__ == "__main__":
    main()
