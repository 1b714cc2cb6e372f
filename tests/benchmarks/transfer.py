"""What a search gains from an earlier launch, in real sweeps of the digits study.

``python -m tests.benchmarks.transfer`` first runs the source, the same study with another teacher and student. Then, per seed, the
study runs cold, with that source, and with a copy of it whose scores are reversed, so that its worst trial looks best. None starts
from the published values. What counts is the number of epochs until the search has what the cold search had at its end: a student,
chosen blind, of that test accuracy, and an exam score as high.

``--folder`` keeps all runs: finished ones are only read, interrupted ones continue.
"""

import argparse
import shutil
import statistics
import tempfile
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from tests.benchmarks.kept_sweep import kept_sweep
from tests.support.studies import ROOT
from tuning.launch import Journal
from tuning.launch.events import Epoch, Event
from tuning.launch.journal import JOURNAL_FILE
from tuning.simulation.holding import held_students

STUDY = ROOT / "search_spaces" / "digits.yaml"
OBJECTIVE = "exam_score"
SOURCE, MISLEADING = "source", "misleading"
OTHER_NETWORKS = ("teacher.arch=resnet20", "student.arch=resnet8")
Progress = list[tuple[int, float]]
"""Epochs over all trials, and what the search had reached by then."""


@dataclass(frozen=True)
class Bench:
    """Where runs are kept, and what all of them are told."""

    folder: Path
    assignments: Sequence[str]

    def source(self) -> None:
        """Run the study with other networks, and keep a copy of the launch that says the opposite."""
        self.sweep(SOURCE, *OTHER_NETWORKS, "search.seed=100")
        reversed_launch = self.folder / "runs" / MISLEADING
        if not reversed_launch.exists():
            shutil.copytree(self.folder / "runs" / SOURCE, reversed_launch)
            reverse_scores(reversed_launch)

    def sweep(self, name: str, *settings: str) -> list[Event]:
        """Run the study under this name, unless it has been -> its events."""
        settings = (f"name={name}", f"storage={self.folder / 'runs'}", "start=[]", *settings, *self.assignments)
        study, _ = kept_sweep(STUDY, settings, cwd=self.folder)
        return list(Journal(study.local / name).events())

    def three(self, seed: int) -> tuple[list[Event], list[Event], list[Event]]:
        """The study cold, with the source, and misled."""
        folder = self.folder / "runs"
        seeds = f"search.seed={seed}"
        return (
            self.sweep(f"cold-{seed}", seeds),
            self.sweep(f"told-{seed}", seeds, f"transfer=[{folder / SOURCE}]"),
            self.sweep(f"misled-{seed}", seeds, f"transfer=[{folder / MISLEADING}]"),
        )


def reverse_scores(launch: Path) -> None:
    """Rewrite a launch's journal so that its worst trial is its best."""
    journal = Journal(launch)
    events = list(journal.events())
    (launch / JOURNAL_FILE).unlink()
    for event in events:
        if isinstance(event, Epoch) and OBJECTIVE in event.metrics:
            event = replace(event, metrics={**event.metrics, OBJECTIVE: 1 - event.metrics[OBJECTIVE]})
        journal.append(event)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", nargs="+", type=int, default=[0, 1, 2])
    parser.add_argument("--set", action="append", default=[], metavar="PATH=VALUE", help="a setting of all sweeps")
    parser.add_argument("--folder", type=Path, help="where runs are kept (default: a temporary folder)")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="cpsc-bench-") as temporary:
        bench = Bench((options.folder or Path(temporary)).absolute(), options.set)
        bench.folder.mkdir(parents=True, exist_ok=True)
        bench.source()
        searches = {seed: bench.three(seed) for seed in options.seeds}
    for title, progress in (("test accuracy", accuracies), ("exam score", scores)):
        show(title, {seed: [progress(events) for events in three] for seed, three in searches.items()})


def accuracies(events: Iterable[Event]) -> Progress:
    """Test accuracy of each student held, with the epochs after which it was."""
    return [(held.epochs, held.test_accuracy) for held in held_students(events, OBJECTIVE)]


def scores(events: Iterable[Event]) -> Progress:
    """Each highest score so far, with the epochs after which it was reached."""
    found: Progress = []
    epochs = (event for event in events if isinstance(event, Epoch))
    for count, event in enumerate(epochs, start=1):
        score = event.metrics.get(OBJECTIVE)
        if score is not None and (not found or score > found[-1][1]):
            found.append((count, score))
    return found


def show(title: str, searches: Mapping[int, Sequence[Progress]]) -> None:
    """Print a table: a row for each seed, and the medians of the epochs needed, as shares of the cold search's."""
    print(f"\n| seed | cold: {title} at its end, epochs to it | with the source: epochs to it | misled | at the end |")
    print("|---|---|---|---|---|")
    shares = []
    for seed, progress in searches.items():
        target = progress[0][-1][1]
        cold, told, misled = (epochs_to(target, found) for found in progress)
        ends = " / ".join(f"{found[-1][1]:.2%}" for found in progress)
        print(f"| {seed} | {target:.2%}, {cold:.0f} | {told:.0f} | {misled:.0f} | {ends} |")
        shares.append((told / cold, misled / cold))
    with_source, with_misleading = (statistics.median(share) for share in zip(*shares, strict=True))
    print(f"median share of the cold search's epochs: {with_source:.2f} with the source, {with_misleading:.2f} misled")


def epochs_to(target: float, progress: Progress) -> float:
    """Epochs until the target was reached; infinite if it never was."""
    return next((epochs for epochs, value in progress if value >= target), float("inf"))


if __name__ == "__main__":
    main()
