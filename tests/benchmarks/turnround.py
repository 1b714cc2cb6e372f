"""What a sweep adds to its trials' training: the turnround of a warm worker, checkpoints, measurements.

``python -m tests.benchmarks.turnround`` runs the digits study, or another one, like ``cpsc-tune sweep``, logs when each worker
began and ended each piece of work, and prints a table of medians with quartiles.
"""

import argparse
import itertools
import json
import os
import platform
import statistics
import tempfile
import time
from collections import defaultdict
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch

import tuning.sweep.tuner
from tests.benchmarks.step import processor
from tuning.cli import app
from tuning.trial.trainable import DistillTrainable

ROOT = Path(__file__).parents[2]
LOG = "CPSC_TURNROUND_LOG"


class TimedTrainable(DistillTrainable):
    """The trials' own trainable, which also writes one line per piece of work to the folder that `LOG` names."""

    def setup(self, config: dict[str, Any], context: Any = None) -> None:
        with self._timed("start of a worker", config):
            super().setup(config, context)

    def reset_config(self, new_config: dict[str, Any]) -> bool:
        with self._timed("reset", new_config):
            return super().reset_config(new_config)

    def step(self) -> dict[str, Any]:
        with self._timed("step", self.config) as line:
            result = super().step()
            line |= {name: result.get(name) for name in ("train_s", "epoch_s")}
            return result

    def save_checkpoint(self, checkpoint_dir: str) -> None:
        with self._timed("checkpoint", self.config):
            super().save_checkpoint(checkpoint_dir)

    @contextmanager
    def _timed(self, work: str, config: dict[str, Any]) -> Iterator[dict[str, Any]]:
        line: dict[str, Any] = {"work": work, "trial": config["number"], "began": time.time()}
        yield line
        line["ended"] = time.time()
        with (Path(os.environ[LOG]) / f"{os.getpid()}.jsonl").open("a") as file:
            file.write(json.dumps(line) + "\n")


def turn_rounds(lines: list[dict[str, Any]]) -> list[float]:
    """Seconds between the last step of a trial and the first step of the next one on the same worker."""
    steps = [line for line in lines if line["work"] == "step"]
    pairs = itertools.pairwise(steps)
    return [after["began"] - before["ended"] for before, after in pairs if before["trial"] != after["trial"]]


def summary(workers: list[list[dict[str, Any]]]) -> str:
    """Rows of the table."""
    taken: dict[str, list[float]] = defaultdict(list)
    for lines in workers:
        taken["from a trial's last step to the next one's first"] += turn_rounds(lines)
        for line in lines:
            taken[line["work"]].append(line["ended"] - line["began"])
            if line["work"] == "step" and line["epoch_s"]:
                taken["measuring, in a step"].append(line["epoch_s"] - line["train_s"])
    return "\n".join(f"| {work} | {len(values)} | {_spread(values)} |" for work, values in taken.items())


def _spread(values: list[float]) -> str:
    if len(values) < 2:
        return f"{1000 * values[0]:.0f}" if values else "none"
    low, median, high = statistics.quantiles(values, n=4)
    return f"{1000 * median:.0f} ({1000 * low:.0f}-{1000 * high:.0f}, at most {1000 * max(values):.0f})"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("study", nargs="?", type=Path, default=ROOT / "search_spaces" / "digits.yaml")
    parser.add_argument("--set", action="append", default=[], help="settings, as in cpsc-tune")
    options = parser.parse_args()
    words = [word for assignment in options.set for word in ("--set", assignment)]
    tuning.sweep.tuner.DistillTrainable = TimedTrainable  # type: ignore[misc]
    with tempfile.TemporaryDirectory() as folder:
        os.environ[LOG] = folder
        app(["sweep", str(options.study), "--quiet", "--set", f"storage={folder}/runs", *words], standalone_mode=False)
        workers = [[json.loads(line) for line in file.read_text().splitlines()] for file in Path(folder).glob("*.jsonl")]
    print(f"{processor(torch.device('cpu'))}, Python {platform.python_version()}, torch {torch.__version__}")
    print("| | n | milliseconds: median (quartiles) |\n|---|---|---|")
    print(summary(workers))


if __name__ == "__main__":
    main()
