"""Is pruning worth it? TPE with ASHA against random search without pruning, at equal wall time, blind, on the digits study.

``python -m tests.benchmarks.search_speed`` runs both with several seeds. Random search runs the study's number of trials, all to
the end; TPE with ASHA gets the time that this took. Neither starts from the published values. The table shows when each first
held a student whose test accuracy is at least that of random search's final one. The student held at any moment is the one with
the highest probe agreement so far.
"""

import argparse
import statistics
import tempfile
from pathlib import Path
from typing import Any, NamedTuple

from tests.support.command_line import run_cli
from tuning.launch import Journal
from tuning.launch.events import Epoch, TrialStart
from tuning.study import load_study

ROOT = Path(__file__).parents[2]
STUDY = ROOT / "search_spaces" / "digits.yaml"
RANDOM = ("search.sampler=random", "prune.scheduler=none")
MORE_THAN_TIME_ALLOWS = 1000


class Moment(NamedTuple):
    """A moment at which a new student is held."""

    seconds: float
    """Since the first trial began."""
    test_accuracy: float


def held(folder: Path, name: str) -> tuple[list[Moment], float]:
    """The students that a sweep held, and how long it took, from its journal."""
    events = list(Journal(folder / "runs" / name).events())
    began = next(event.time for event in events if isinstance(event, TrialStart))
    moments: list[Moment] = []
    best = -1.0
    for event in events:
        if isinstance(event, Epoch) and event.metrics["probe_agreement"] > best:
            best = event.metrics["probe_agreement"]
            moments.append(Moment(event.time - began, event.metrics["test_accuracy"]))
    return moments, events[-1].time - began


def sweep(folder: Path, name: str, *settings: str) -> tuple[list[Moment], float]:
    """Run the study under another name."""
    assignments = (f"name={name}", "start=[]", "objective=probe_agreement", *settings)
    words: list[Any] = [word for assignment in assignments for word in ("--set", assignment)]
    done = run_cli("sweep", STUDY, "--quiet", *words, cwd=folder, timeout=3600)
    assert done.returncode == 0, done.stderr
    return held(folder, name)


def reached(moments: list[Moment], accuracy: float) -> float:
    """Seconds until a student with at least that accuracy was held; infinite if never."""
    return min((moment.seconds for moment in moments if moment.test_accuracy >= accuracy), default=float("inf"))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", nargs="+", type=int, default=[0, 1, 2])
    options = parser.parse_args()
    load_study(STUDY, ["start=[]", *RANDOM])
    print("| seed | random search: time, accuracy held | TPE + ASHA: as good after | share | accuracy at the end |")
    print("|---|---|---|---|---|")
    shares = []
    with tempfile.TemporaryDirectory() as path:
        folder = Path(path)
        for seed in options.seeds:
            by_chance, whole = sweep(folder, f"random-{seed}", f"search.seed={seed}", *RANDOM)
            budget = (f"search.time_budget_s={whole:.0f}", f"search.num_trials={MORE_THAN_TIME_ALLOWS}")
            pruned, _ = sweep(folder, f"asha-{seed}", f"search.seed={seed}", *budget)
            target = by_chance[-1].test_accuracy
            needed, wanted = reached(pruned, target), reached(by_chance, target)
            shares.append(needed / whole)
            print(
                f"| {seed} | {whole:.0f} s, {target:.2%} (first after {wanted:.0f} s) | {needed:.0f} s | {needed / whole:.2f} "
                f"| {pruned[-1].test_accuracy:.2%} |",
                flush=True,
            )
    print(f"median share of the time: {statistics.median(shares):.2f}")


if __name__ == "__main__":
    main()
