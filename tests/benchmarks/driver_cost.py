"""What a sweep costs its driver: studies of 100 and of 1,000 trials, 8 at a time, of a trainable whose curve is known.

``python -m tests.benchmarks.driver_cost`` runs each study through the real search, scheduler, recorder, MLflow writer, mirror and
progress; only the training is left out. Cost is the processor time of the driver's process, all its threads included.
"""

import argparse
import os
import platform
import tempfile
import time
from pathlib import Path
from typing import Any

import psutil
import pytest
import ray
import torch
from ray.tune import Trainable

from cpsc import checkpoint
from tests.benchmarks.malformed import sound_teacher, study_of_a_bundle
from tuning import tuner
from tuning.config import resolve_study
from tuning.progress import Display
from tuning.results import SweepSummary
from tuning.sweep import run_sweep
from tuning.trainable import BEST_STUDENT_FILE, STATE_FILE, TrialContext

NUM_METRICS = 40
"""As many as a trial of CPSC-DFKD reports."""
EPOCHS, AT_A_TIME = 3, 8


class CurveTrainable(Trainable):
    """Reports what a trial does, out of a formula."""

    def setup(self, config: dict[str, Any], context: TrialContext | None = None) -> None:
        self.reset_config(config)

    def reset_config(self, new_config: dict[str, Any]) -> bool:
        self._quality, self._epoch = 1.0 / (1.0 + abs(new_config["point"]["weights.l2"] - 2.0)), 0
        return True

    def step(self) -> dict[str, Any]:
        self._epoch += 1
        value = self._quality * self._epoch / EPOCHS
        terms = {f"generator/term_{index}": value + index for index in range(NUM_METRICS)}
        own = {"probe_agreement": value, "best_probe_agreement": value, "probe_kl": 1.0 - value, "epoch": self._epoch}
        return terms | own | {"diverged": False, "done": self._epoch >= EPOCHS, "note": "", "node": "here"}

    def save_checkpoint(self, checkpoint_dir: str) -> None:
        folder, teacher = Path(checkpoint_dir), sound_teacher()
        checkpoint.save({"epoch": self._epoch}, folder / STATE_FILE)
        checkpoint.save({"version": 1, "student": dict(teacher.state), "arch": teacher.arch}, folder / BEST_STUDENT_FILE)

    def load_checkpoint(self, checkpoint_dir: str) -> None:
        raise AssertionError("nothing is restored here")


def run_study(num_trials: int) -> tuple[SweepSummary, float, float]:
    """The sweep's summary, its wall time and its driver's processor time, both without Ray's start, in seconds."""
    with tempfile.TemporaryDirectory() as name, pytest.MonkeyPatch.context() as patch:
        patch.chdir(name)
        patch.setattr(tuner, "DistillTrainable", CurveTrainable)
        patch.setattr(psutil, "cpu_count", lambda *_: AT_A_TIME)  # the trials compute nothing
        sound_teacher().save(Path("teacher.pt"))
        raw = study_of_a_bundle()
        raw["config"]["epochs"] = EPOCHS
        raw |= {"storage": f"{name}/runs", "search": {"num_trials": num_trials, "max_concurrent": AT_A_TIME}}
        started, busy = time.monotonic(), time.process_time()
        summary = run_sweep(resolve_study(raw), Display(quiet=True))
        return summary, time.monotonic() - started, time.process_time() - busy


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--trials", type=int, nargs="+", default=[100, 1000])
    options = parser.parse_args()
    print(f"{os.cpu_count()} CPU cores, Python {platform.python_version()}, torch {torch.__version__}, Ray {ray.__version__}")
    print("| trials | results | wall s | driver's processor s | ms a trial | ms a result | in tracking |")
    print("|---|---|---|---|---|---|---|")
    for num_trials in options.trials:
        summary, wall_s, busy_s = run_study(num_trials)
        results = summary.launch.epochs_run
        cells = (
            num_trials,
            results,
            f"{wall_s:.0f}",
            f"{busy_s:.0f}",
            f"{1e3 * busy_s / num_trials:.0f}",
            f"{1e3 * busy_s / results:.0f}",
        )
        print(f"| {' | '.join(map(str, cells))} | {summary.tracking_share:.1%} |", flush=True)


if __name__ == "__main__":
    main()
