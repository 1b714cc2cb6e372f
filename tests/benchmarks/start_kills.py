"""Sweeps that are killed while they start, each on its own storage: ``python -m tests.benchmarks.start_kills --help``.

Each round starts the process of a sweep and kills it with SIGKILL at a random moment within its first seconds, imports included.
If it left anything, another sweep is then run on the same storage and, if the killed launch had begun, its resume. Both must end
with status 0, and MLflow must then show every launch as finished and no run as running.
"""

import argparse
import random
import signal
import subprocess
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psutil

from tests.support.killing import end, start, statuses
from tests.support.studies import tiny_study, write_study
from tuning.launch.folder import launches_in

TIMEOUT_S = 900.0
RAY_IS_SLOW, TRIES = "timed out during startup", 5


@dataclass(frozen=True)
class Round:
    """The result of one kill. `wrong`: empty if all went well."""

    index: int
    after_s: float
    left: str
    wrong: list[str]

    def __str__(self) -> str:
        return f"| {self.index} | {self.after_s:.1f} | {self.left} | {'; '.join(self.wrong) or 'works'} |"


def kill_one(folder: Path, after_s: float, index: int) -> Round:
    """Kill a sweep on an empty storage `after_s` seconds after its process began, and check whether the storage is still usable."""
    folder.mkdir()
    study = write_study(folder / "tiny.yaml", _tiniest(folder))
    driver = start("sweep", study, cwd=folder)
    children = _wait(driver, after_s)
    end(driver, signal.SIGKILL)
    for child in children:  # Ray's processes follow their driver in time, but the next sweep begins at once
        child.wait()
    storage = folder / "runs"
    left = _left(storage)
    if not left:
        return Round(index, after_s, "nothing, not even the folder", [])
    begun = [launch.name for launch in launches_in(storage)]
    wrong = _run(folder, "sweep", study)
    for name in begun:
        wrong += _run(folder, "resume", name, "--storage", storage)
    found = statuses(storage) if not wrong else {}
    wrong += [f"MLflow says {name} is {status}" for name, status in found.items() if status not in ("FINISHED", "FAILED")]
    wrong += [f"{name} is not finished in MLflow" for name in begun if not wrong and found.get(name) != "FINISHED"]
    return Round(index, after_s, left, wrong)


def _tiniest(folder: Path) -> dict[str, Any]:
    study = tiny_study()
    study["storage"] = str(folder / "runs")
    study["config"]["epochs"] = 1
    study["search"] = {"num_trials": 1, "startup_trials": 1}
    return study


def _wait(driver: subprocess.Popen[bytes], after_s: float) -> list[psutil.Process]:
    """Let the driver run for `after_s` seconds -> its child processes."""
    try:
        driver.wait(after_s)
    except subprocess.TimeoutExpired:
        return psutil.Process(driver.pid).children(recursive=True)
    return []


def _left(storage: Path) -> str:
    """What the killed sweep left, in words."""
    if not storage.exists():
        return ""
    return ", ".join(sorted(path.name + ("/" if path.is_dir() else "") for path in storage.iterdir())) or "an empty folder"


def _run(folder: Path, *arguments: str | Path) -> list[str]:
    """Run the command -> what went wrong. Repeated if Ray gave up because an overloaded machine took 30 s to start it."""
    for _ in range(TRIES):
        status = end_by_itself(start(*arguments, "--quiet", cwd=folder))
        said = "".join((folder / "driver.log").read_text(errors="replace").strip().splitlines()[-1:])
        if status == 0:
            return []
        if RAY_IS_SLOW not in said:
            break
    return [f"{arguments[0]} ended with {status}: {said}"]


def end_by_itself(process: subprocess.Popen[bytes]) -> int | str:
    """The process's exit status, or that it had to be killed."""
    try:
        return process.wait(TIMEOUT_S)
    except subprocess.TimeoutExpired:
        end(process, signal.SIGKILL)
        return f"no end after {TIMEOUT_S:.0f} s"


def run(count: int, seed: int, first_s: float, last_s: float) -> list[Round]:
    """Run `count` rounds, each with a random moment between `first_s` and `last_s` of the process's life."""
    rng, rounds = random.Random(seed), []
    print("| kill | after, s | left behind | later sweep and resume |\n|---|---|---|---|", flush=True)
    for index in range(count):
        with tempfile.TemporaryDirectory(prefix="start-kills-") as folder:
            rounds.append(kill_one(Path(folder) / "round", rng.uniform(first_s, last_s), index))
        print(rounds[-1], flush=True)
    return rounds


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("-n", "--count", type=int, default=40, help="number of kills")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--first", type=float, default=0.0, help="earliest moment of a kill, in seconds after the process started")
    parser.add_argument("--last", type=float, default=20.0, help="latest moment of a kill, likewise")
    options = parser.parse_args(arguments)
    started = time.monotonic()
    rounds = run(options.count, options.seed, options.first, options.last)
    good = sum(not one.wrong for one in rounds)
    span = f"{options.first:.0f} to {options.last:.0f} s"
    print(f"{good} of {len(rounds)} storages work, killed after {span}; {time.monotonic() - started:.0f} s in all")


if __name__ == "__main__":
    main()
