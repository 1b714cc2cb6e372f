"""What the driver of a sweep costs per trial, and whether it stays so: the same study with more and more trials.

``python -m tests.benchmarks.driver`` runs real sweeps, with Ray, Optuna, ASHA, MLflow's SQLite and the journal, of trials that
train nothing: each reports at once what a trained one reports, along a curve that is known from its point, and saves files
like a trained one's. What is left is the driver's own work, counted in CPU time of its process, so that what else the machine
does does not matter. Each size runs in a process of its own; starting and ending Ray, making MLflow's tables and registering
the champion, once a sweep, are left out.
"""

import argparse
import cProfile
import functools
import json
import math
import os
import platform
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections import defaultdict
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import asdict, dataclass, field
from importlib.metadata import version
from pathlib import Path
from typing import Any
from unittest import mock

import torch
import yaml
from mlflow import MlflowClient
from ray.tune import Trainable
from ray.tune.execution.tune_controller import TuneController

from cpsc import checkpoint
from cpsc.pictures import save_grid
from tests.benchmarks.step import processor
from tests.support.malformed import probe_path, sound_probe, sound_teacher, study_of_a_bundle
from tuning.display import Display
from tuning.outcome import Outcome
from tuning.search import StudyMirror
from tuning.search.asha import ResumableAsha
from tuning.search.optuna_search import StudySearch
from tuning.study import build_config
from tuning.study.config import resolve_study
from tuning.study.yaml_loader import to_plain
from tuning.sweep import driver as sweep
from tuning.sweep.progress import SweepProgress
from tuning.sweep.recorder import Recorder
from tuning.tracking import MlflowWriter, store_uri
from tuning.trial.context import TrialContext
from tuning.trial.files import BEST_STUDENT_FILE, CONFIG_FILE, SAMPLES_FILE, STATE_FILE
from tuning.trial.trainable import node_name

EPOCHS = 9
AT_A_TIME = 8
SPAN = 100
OTHER_METRICS = 40
"""Beside the objective's: as many as a trained trial reports."""
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
"""That of search_spaces/digits.yaml."""
ON_THE_LOOP: dict[str, tuple[type, tuple[str, ...]]] = {
    "search": (StudySearch, ("suggest", "on_trial_result", "on_trial_complete")),
    "scheduler": (ResumableAsha, ("on_trial_add", "on_trial_result", "on_trial_complete", "on_trial_remove")),
    "journal": (Recorder, ("on_trial_start", "on_trial_result", "on_checkpoint", "on_trial_complete")),
    "progress": (SweepProgress, ("on_trial_start", "on_trial_result", "on_trial_complete")),
    "Ray's snapshots": (TuneController, ("save_to_dir",)),
}
"""What the driver's main thread does beside Ray's event loop: of a class, its methods."""
IN_A_THREAD: dict[str, type] = {"tracking": MlflowWriter, "Optuna mirror": StudyMirror}


def agreement(point: dict[str, float], epoch: int) -> float:
    """The curve of a trial: the farther a weight is from 5, the lower its ceiling."""
    return math.exp(-abs(math.log(point["weights.l2"] / 5))) * (1 - math.exp(-epoch / 2))


class CurveTrainable(Trainable):
    """Stands for DistillTrainable: the same results and files, without training."""

    def setup(self, config: dict[str, Any], context: TrialContext | None = None) -> None:
        assert context is not None
        self._files = files_like_a_trained_one(context)
        self._node = node_name()
        self.reset_config(config)

    def reset_config(self, new_config: dict[str, Any]) -> bool:
        self._point, self._epoch = new_config["point"], 0
        return True

    def step(self) -> dict[str, Any]:
        self._epoch += 1
        value = agreement(self._point, self._epoch)
        metrics = {f"measure_{number:02d}": value / (number + 1) for number in range(OTHER_METRICS)}
        metrics |= {"probe_agreement": value, "best_probe_agreement": value, "probe_kl": 1 - value}
        state = {"diverged": False, "done": self._epoch >= EPOCHS, "note": "", "node": self._node}
        return metrics | {"epoch": self._epoch} | state

    def save_checkpoint(self, checkpoint_dir: str) -> None:
        for name, content in self._files.items():
            (Path(checkpoint_dir) / name).write_bytes(content)


def files_like_a_trained_one(context: TrialContext) -> dict[str, bytes]:
    """What a trial's checkpoint holds, by name; the student is the teacher, whose architecture it has."""
    student = dict(context.teacher.state)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        checkpoint.save({"version": 1, "epoch": 1, "parts": {"student": student}}, folder / STATE_FILE)
        checkpoint.save({"version": 1, "student": student, "arch": context.teacher.arch}, folder / BEST_STUDENT_FILE)
        (folder / CONFIG_FILE).write_text(yaml.safe_dump(to_plain(asdict(build_config(context.base, {})))))
        save_grid(torch.randint(0, 256, (10, 4, 1, 16, 16), dtype=torch.uint8), folder / SAMPLES_FILE)
        return {file.name: file.read_bytes() for file in folder.iterdir()}


@dataclass
class Meter:
    """CPU time of this process: by part, and as it was when each trial ended."""

    parts: dict[str, float] = field(default_factory=lambda: defaultdict(float))
    started: float = 0.0
    delivered: float = 0.0
    ends: list[float] = field(default_factory=list)
    results: int = 0

    @contextmanager
    def watching(self) -> Iterator[None]:
        """Count what the parts of a sweep take in this block."""
        with ExitStack() as stack:
            for part, (owner, names) in ON_THE_LOOP.items():
                for name in names:
                    stack.enter_context(mock.patch.object(owner, name, self._counted(part, getattr(owner, name))))
            for part, owner in IN_A_THREAD.items():
                stack.enter_context(mock.patch.object(owner, "run", self._counted(part, owner.run)))
            marks = {"on_trial_start": self._note_start, "on_trial_result": self._note_result, "on_trial_complete": self._note_end}
            for name, mark in marks.items():
                stack.enter_context(mock.patch.object(Recorder, name, _after(getattr(Recorder, name), mark)))
            stack.enter_context(mock.patch.object(StudyMirror, "close", _after(StudyMirror.close, self._note_delivered)))
            yield

    def _counted(self, part: str, call: Callable[..., Any]) -> Callable[..., Any]:
        def counting(*arguments: Any, **named: Any) -> Any:
            started = time.thread_time()
            try:
                return call(*arguments, **named)
            finally:
                self.parts[part] += time.thread_time() - started

        return counting

    def _note_start(self) -> None:
        if self.started:
            return
        self.parts.clear()
        for part, owner in IN_A_THREAD.items():  # their files are open by now, which they do once
            self.parts[part] = -sum(_cpu_s(thread) for thread in threading.enumerate() if isinstance(thread, owner))
        self.started = time.process_time()

    def _note_result(self) -> None:
        self.results += 1

    def _note_end(self) -> None:
        self.ends.append(time.process_time())

    def _note_delivered(self) -> None:
        self.delivered = time.process_time()


def _cpu_s(thread: threading.Thread) -> float:
    assert thread.ident is not None
    return time.clock_gettime(time.pthread_getcpuclockid(thread.ident))


def _after(call: Callable[..., Any], mark: Callable[[], None]) -> Callable[..., Any]:
    def marking(*arguments: Any, **named: Any) -> Any:
        result = call(*arguments, **named)
        mark()
        return result

    return marking


def measure(num_trials: int, profile: Path | None) -> dict[str, Any]:
    """One sweep of `num_trials` in this process, in the current folder -> its CPU times in seconds."""
    teacher, meter = sound_teacher(), Meter()
    teacher.save(Path("teacher.pt"))
    sound_probe(teacher).save(probe_path(teacher))
    raw = study_of_a_bundle() | {"name": "driver", "space": SPACE, "start": [{}], "prune": {"reduction_factor": 3}}
    raw["config"]["epochs"] = EPOCHS
    study = resolve_study(raw | {"search": {"num_trials": num_trials, "max_concurrent": AT_A_TIME}, "objective": "probe_agreement"})
    MlflowClient(tracking_uri=store_uri(study)).search_experiments()  # makes the tables
    profiler = cProfile.Profile(time.thread_time)
    with (
        mock.patch("tuning.sweep.tuner.DistillTrainable", CurveTrainable),
        mock.patch("tuning.cluster.session.num_processors", return_value=AT_A_TIME),
        mock.patch("tuning.trial.resources.num_processors", return_value=AT_A_TIME),
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
    assert launch.count(Outcome.COMPLETED) + launch.count(Outcome.PRUNED) == num_trials, "a trial has failed"
    return {
        "trials": num_trials,
        "results": meter.results,
        "elapsed_s": elapsed_s,
        "total_s": meter.delivered - meter.started,
        "ends_s": [end - meter.started for end in meter.ends],
        "parts": dict(meter.parts),
    }


def in_a_process(num_trials: int, profile: Path | None) -> dict[str, Any]:
    """`measure` in a process and a folder of its own."""
    root = Path(__file__).parents[2]
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(filter(None, [str(root), os.environ.get("PYTHONPATH")]))}
    with tempfile.TemporaryDirectory(prefix="driver-") as folder:
        command = [sys.executable, "-m", "tests.benchmarks.driver", "--measure", str(num_trials)]
        command += ["--profile", str(profile.absolute())] if profile else []
        done = subprocess.run(command, cwd=folder, env=environment, stdout=subprocess.PIPE, text=True, check=True)
    return dict(json.loads(done.stdout.splitlines()[-1]))


def table(rounds: list[list[dict[str, Any]]]) -> str:
    """The measurements, a column a size, in milliseconds of CPU time a trial: medians of the rounds.

    Last the ratio of the last size to the first, each taken within a round: their median, least and most.
    """
    parts = [*ON_THE_LOOP, *IN_A_THREAD]

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
        "| CPU time of the driver, ms a trial | " + " | ".join(f"{size['trials']} trials" for size in sizes) + " | ratio |",
        "|---" * (len(sizes) + 2) + "|",
        *(row(part, functools.partial(per_trial, part=part)) for part in parts),
        row("Ray's loop and the rest", lambda size: total(size) - sum(per_trial(size, part) for part in parts)),
        row("all", total),
        row("all, a result", lambda size: float(1000 * size["total_s"] / size["results"])),
    ]
    return "\n".join(lines)


def growth(size: dict[str, Any]) -> str:
    """What trials cost early and late in one sweep: the second hundred, for the first warms up, and the last."""
    ends = size["ends_s"]
    early, late = (1000 * (ends[last] - ends[last - SPAN]) / SPAN for last in (2 * SPAN - 1, len(ends) - 1))
    return (
        f"within {size['trials']} trials: {early:.1f} ms for each from {SPAN + 1} to {2 * SPAN}, {late:.1f} ms for the last {SPAN}"
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--trials", type=int, nargs="+", default=[100, 1000], help="the sizes, in this order")
    parser.add_argument("--rounds", type=int, default=3, help="runs of all sizes")
    parser.add_argument("--profile", type=Path, help="a file for cProfile's statistics of the last size's main thread")
    parser.add_argument("--measure", type=int, help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.measure:
        print(json.dumps(measure(args.measure, args.profile)))
        return
    rounds = [
        [in_a_process(size, args.profile if size == args.trials[-1] else None) for size in args.trials] for _ in range(args.rounds)
    ]
    versions = ", ".join(f"{name} {version(name)}" for name in ("ray", "optuna", "mlflow"))
    print(f"{processor(torch.device('cpu'))}, {os.cpu_count()} cores; Python {platform.python_version()}, {versions}")
    print(f"{AT_A_TIME} trials at a time; n = {args.rounds}: medians, and ratios from the least to the most")
    for sizes in rounds:
        print(", ".join(f"{size['trials']} trials: {size['results']} results, {size['elapsed_s']:.0f} s" for size in sizes))
    print()
    print(table(rounds))
    for size in (size for sizes in rounds for size in sizes if size["trials"] >= 3 * SPAN):
        print(growth(size))


if __name__ == "__main__":
    main()
