"""What the driver of a sweep costs per trial, and whether that grows with the number of trials.

``python -m tests.benchmarks.driver`` runs real sweeps, with Ray, Optuna, ASHA, MLflow on SQLite and the journal, whose trials
train nothing: each immediately reports what a trained one would, along a curve that follows from its point, and saves similar
files. What is left is the driver's own work, measured as CPU time of its process, so that other load on the machine does not
matter. Each size runs in its own process. One-off work per sweep is left out: starting and stopping Ray, making MLflow's tables
and registering the champion.
"""

import argparse
import cProfile
import functools
import json
import math
import os
import platform
import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any
from unittest import mock

import torch
from mlflow import MlflowClient
from ray.tune.execution.tune_controller import TuneController

from tests.benchmarks.own_process import in_a_process
from tests.benchmarks.step import processor
from tests.benchmarks.sweep_meter import SweepMeter, Watched
from tests.benchmarks.untrained import CurveTrainable
from tests.support.malformed import probe_path, sound_probe, sound_teacher, study_of_a_bundle
from tuning.display import Display
from tuning.outcome import Outcome
from tuning.search import StudyMirror
from tuning.search.asha import ResumableAsha
from tuning.search.optuna_search import StudySearch
from tuning.study import Study
from tuning.study.config import resolve_study
from tuning.sweep import driver as sweep
from tuning.sweep.progress import SweepProgress
from tuning.sweep.recorder import Recorder
from tuning.tracking import MlflowWriter, store_uri

MODULE = "tests.benchmarks.driver"
SPAN = 100
SPACE = {
    "weights.batch_statistics": {"loguniform": [0.3, 3]},
    "weights.adversarial": {"loguniform": [0.3, 2]},
    "weights.l2": {"loguniform": [1, 20]},
    "weights.contrast": {"loguniform": [0.1, 3]},
    "weights.label": {"loguniform": [0.1, 3]},
    "contrast_temperature": {"loguniform": [0.05, 0.5]},
    "distillation_temperature": {"loguniform": [1, 4]},
    "student.lr": {"loguniform": [0.05, 0.3]},
    "generator.lr": {"loguniform": [0.0005, 0.005]},
}
"""The space of search_spaces/digits.yaml."""
WATCHED = Watched(
    on_the_loop={
        "search": (StudySearch, ("suggest", "on_trial_result", "on_trial_complete")),
        "scheduler": (ResumableAsha, ("on_trial_add", "on_trial_result", "on_trial_complete", "on_trial_remove")),
        "journal": (Recorder, ("on_trial_start", "on_trial_result", "on_checkpoint", "on_trial_complete")),
        "progress": (SweepProgress, ("on_trial_start", "on_trial_result", "on_trial_complete")),
        "Ray's snapshots": (TuneController, ("save_to_dir",)),
    },
    in_a_thread={"tracking": MlflowWriter, "Optuna mirror": StudyMirror},
    trial_start=(Recorder, "on_trial_start"),
    trial_result=(Recorder, "on_trial_result"),
    trial_end=(Recorder, "on_trial_complete"),
    delivered=(StudyMirror, "close"),
)


@dataclass(frozen=True)
class Size:
    """The size of a sweep."""

    trials: int
    epochs: int = 9
    at_a_time: int = 8

    def words(self) -> tuple[object, ...]:
        """The size as command-line arguments, without `trials`."""
        return "--epochs", self.epochs, "--at-a-time", self.at_a_time


def add_size(parser: argparse.ArgumentParser) -> None:
    """Add the arguments that `Size.words` makes."""
    parser.add_argument("--epochs", type=int, default=Size.epochs, help="epochs of a trial that is not pruned")
    parser.add_argument("--at-a-time", type=int, default=Size.at_a_time, help="trials at a time; Ray is told of one CPU for each")


def study_of(size: Size) -> Study:
    """Make the study, and the files that it needs, in the current folder."""
    teacher = sound_teacher()
    teacher.save(Path("teacher.pt"))
    sound_probe(teacher).save(probe_path(teacher))
    raw = study_of_a_bundle() | {"name": "driver", "space": SPACE, "start": [{}], "prune": {"reduction_factor": 3}}
    raw["config"]["epochs"] = size.epochs
    search = {"num_trials": size.trials, "max_concurrent": size.at_a_time}
    return resolve_study(raw | {"search": search, "objective": "probe_agreement"})


def measure(size: Size, profile: Path | None = None) -> dict[str, Any]:
    """Run one sweep in this process, in the current folder -> its times in seconds, as measured by `SweepMeter`."""
    study, meter = study_of(size), SweepMeter(WATCHED)
    MlflowClient(tracking_uri=store_uri(study)).search_experiments()  # makes the tables
    profiler = cProfile.Profile(time.thread_time)
    with (
        mock.patch("tuning.sweep.tuner.DistillTrainable", CurveTrainable),
        mock.patch("tuning.cluster.session.num_processors", return_value=size.at_a_time),
        mock.patch("tuning.trial.resources.num_processors", return_value=size.at_a_time),
        meter.watching(),
    ):
        if profile:
            profiler.enable()
        started = time.monotonic()
        launch = sweep.run_sweep(study, Display(quiet=True)).launch
        elapsed_s = time.monotonic() - started
        if profile:
            profiler.disable()
            profiler.dump_stats(profile)
    assert launch.count(Outcome.COMPLETED) + launch.count(Outcome.PRUNED) == size.trials, "a trial has failed"
    return {"trials": size.trials, "elapsed_s": elapsed_s} | meter.measured()


def table(rounds: list[list[dict[str, Any]]]) -> str:
    """The measurements, one column per size, in milliseconds of CPU time per trial: medians over rounds.

    The last column is the ratio of the last size to the first within a round: median, minimum and maximum.
    """
    parts = [*WATCHED.on_the_loop, *WATCHED.in_a_thread]

    def row(name: str, milliseconds: Callable[[dict[str, Any]], float]) -> str:
        found = [[milliseconds(size) for size in sizes] for sizes in rounds]
        ratios = [sizes[-1] / sizes[0] if sizes[0] else math.nan for sizes in found]
        shown = [f"{statistics.median(column):.1f}" for column in zip(*found, strict=True)]
        return f"| {name} | {' | '.join(shown)} | {statistics.median(ratios):.2f} ({min(ratios):.2f}-{max(ratios):.2f}) |"

    def per_trial(size: dict[str, Any], part: str) -> float:
        return float(1000 * size["parts"].get(part, 0.0) / size["trials"])

    def total(size: dict[str, Any]) -> float:
        return float(1000 * size["total_s"] / size["trials"])

    sizes = rounds[0]
    lines = [
        "| CPU time of the driver, ms per trial | " + " | ".join(f"{size['trials']} trials" for size in sizes) + " | ratio |",
        "|---" * (len(sizes) + 2) + "|",
        *(row(part, functools.partial(per_trial, part=part)) for part in parts),
        row("Ray's loop and the rest", lambda size: total(size) - sum(per_trial(size, part) for part in parts)),
        row("all", total),
        row("all, per result", lambda size: float(1000 * size["total_s"] / size["results"])),
    ]
    return "\n".join(lines)


def growth(size: dict[str, Any]) -> str:
    """What trials cost early and late in one sweep: in the second hundred, as the first warms up, and in the last."""
    ends = size["ends_s"]
    early, late = (1000 * (ends[last] - ends[last - SPAN]) / SPAN for last in (2 * SPAN - 1, len(ends) - 1))
    return (
        f"within {size['trials']} trials: {early:.1f} ms for each from {SPAN + 1} to {2 * SPAN}, {late:.1f} ms for the last {SPAN}"
    )


def machine() -> str:
    """What the figures depend on, in one line."""
    versions = ", ".join(f"{name} {version(name)}" for name in ("ray", "optuna", "mlflow"))
    return f"{processor(torch.device('cpu'))}, {os.cpu_count()} cores; Python {platform.python_version()}, {versions}"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--trials", type=int, nargs="+", default=[100, 1000], help="numbers of trials, in this order")
    parser.add_argument("--rounds", type=int, default=3, help="how often all sizes are run")
    parser.add_argument("--profile", type=Path, help="file for cProfile's statistics of the main thread at the last size")
    parser.add_argument("--measure", type=int, help=argparse.SUPPRESS)
    add_size(parser)
    args = parser.parse_args()
    if args.measure:
        print(json.dumps(measure(Size(args.measure, args.epochs, args.at_a_time), args.profile)))
        return
    sizes = [Size(trials, args.epochs, args.at_a_time) for trials in args.trials]
    profile = ("--profile", args.profile.absolute()) if args.profile else ()
    rounds = [
        [in_a_process(MODULE, "--measure", size.trials, *size.words(), *(profile if size is sizes[-1] else ())) for size in sizes]
        for _ in range(args.rounds)
    ]
    print(machine())
    print(f"{args.at_a_time} trials at a time; n = {args.rounds}: medians, and ratios from the least to the most")
    for measured in rounds:
        print(", ".join(f"{size['trials']} trials: {size['results']} results, {size['elapsed_s']:.0f} s" for size in measured))
    print()
    print(table(rounds))
    for size in (size for measured in rounds for size in measured if size["trials"] >= 3 * SPAN):
        print(growth(size))


if __name__ == "__main__":
    main()
