"""How good a student each method makes in a given number of minutes on one core, blind, with its published weights and preset.

``python -m tests.benchmarks.minutes --minutes 10 --seeds 0 1 2 --set dataset.path=FOLDER`` times two epochs of each method, two
runs at a time, trains its students for as many epochs as fit into ten minutes of training, and prints two tables: accuracy and cost
of the last student and of the one chosen blind, and test accuracy after some minutes. Measuring students on 10,000 labelled images,
which a user without data does not do, is not counted.

``--folder`` keeps all runs: finished ones are only read, interrupted ones continue.
"""

import argparse
import statistics
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml

from cpsc.methods import METHODS
from tests.support.command_line import run_cli
from tests.support.studies import ROOT
from tuning.api import load_results, load_study
from tuning.report.seed_table import POINTS, spread
from tuning.results import Launch, TrialRecord

AT_A_TIME = 2
PACE_EPOCHS = 2
ACCURACY = "test_accuracy"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--methods", nargs="+", default=list(METHODS), choices=METHODS)
    parser.add_argument("--scale", default="cifar10_two_cores")
    parser.add_argument("--minutes", type=float, default=10.0)
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
        launches = {}
        for method in options.methods:
            epochs = max(1, int(60 * options.minutes / seconds_an_epoch(method, options.scale, folder, options.assignments)))
            name = f"{method}-{options.minutes:g}-minutes"
            launches[method] = trained(method, name, epochs, options.seeds, options.scale, folder, options.assignments)
            print(cost_row(method, launches[method]), flush=True)
    print_tables(launches, options.at)


def seconds_an_epoch(method: str, scale: str, folder: Path, assignments: Sequence[str]) -> float:
    """Training time per epoch, without measuring the student: the slower of two parallel runs, at their last epoch."""
    paced = [*assignments, "objective=probe_overlap"]
    launch = trained(method, f"{method}-pace", PACE_EPOCHS, range(AT_A_TIME), scale, folder, paced)
    return max(trial.curves["train_s"][PACE_EPOCHS] for trial in launch.trials)


def trained(
    method: str, name: str, epochs: int, seeds: Sequence[int], scale: str, folder: Path, assignments: Sequence[str]
) -> Launch:
    """Run the method with each seed to its end, unless the runs are already there."""
    content: dict[str, Any] = {
        "name": name,
        "scale": scale,
        "config": {"method": method, "epochs": epochs},
        "space": {"seed": {"choice": list(seeds)}},
        "search": {"sampler": "grid"},
        "prune": {"scheduler": "none"},
    }
    file = folder / f"{name}.yaml"
    if not file.exists():
        file.write_text(yaml.safe_dump(content))
    settings = [f"storage={folder / 'runs'}", *assignments]
    study = load_study(file, settings)
    words: list[str | Path] = ["sweep", file, *(word for assignment in settings for word in ("--set", assignment))]
    if (study.local / study.name / "journal.jsonl").exists():
        words = ["resume", study.name, "--storage", study.local]
    done = run_cli(*words, cwd=folder, timeout=24 * 3600)
    assert done.returncode == 0, done.stderr
    return load_results(study, quiet=True)


def cost_row(method: str, launch: Launch) -> str:
    """A table row for a method: its last student, the one chosen blind, and their cost."""
    last, chosen = [at(trial, trial.num_epochs) for trial in launch.trials], [chosen_of(trial, launch) for trial in launch.trials]
    seconds, images, student = (mean_total(launch, metric) for metric in ("train_s", "generation_s", "distillation_s"))
    made, learned = (mean_total(launch, metric) / 1000 for metric in ("generation_images", "distillation_images"))
    kept = max(max(trial.curves.get("replay_bytes", {0: 0.0}).values()) for trial in launch.trials) / 1e6
    cells = [f"{launch.epochs}", spread(last), spread(chosen), f"{seconds:.0f}", f"{images:.0f}", f"{student:.0f}"]
    return f"| {' | '.join([method, *cells, f'{made:.0f}', f'{learned:.0f}', f'{kept:.1f}'])} |"


def print_tables(launches: Mapping[str, Launch], minutes: Sequence[float]) -> None:
    headings = "epochs", "last", "chosen blind", "seconds", "for images", "for the student", "thousand image-steps for images"
    print(f"\n| {' | '.join(['method', *headings, 'thousand for the student', 'replay MB'])} |\n|---{'|---' * 9}|")
    for method, launch in launches.items():
        print(cost_row(method, launch))
    print(f"\n| test accuracy after minutes | {' | '.join(f'{minute:g}' for minute in minutes)} |\n|---{'|---' * len(minutes)}|")
    for method, launch in launches.items():
        cells = [[after(trial, 60 * minute) for trial in launch.trials] for minute in minutes]
        print(f"| {method} | {' | '.join(spread([value for value in row if value is not None] or [0.0]) for row in cells)} |")


def at(trial: TrialRecord, epoch: int) -> float:
    return POINTS * trial.curves[ACCURACY][epoch]


def chosen_of(trial: TrialRecord, launch: Launch) -> float:
    epoch = trial.best_epoch(launch.objective)
    assert epoch is not None, f"trial {trial.number} has no result"
    return at(trial, epoch)


def after(trial: TrialRecord, seconds: float) -> float | None:
    """Test accuracy of the last student finished within `seconds` of training; None if there was none."""
    passed, found = 0.0, None
    for epoch in sorted(trial.curves["train_s"]):
        passed += trial.curves["train_s"][epoch]
        if passed > seconds:
            break
        found = at(trial, epoch)
    return found


def mean_total(launch: Launch, metric: str) -> float:
    return statistics.fmean(sum(trial.curves[metric].values()) for trial in launch.trials)


if __name__ == "__main__":
    main()
