"""How accurate the estimate of the time left is while a teacher and a probe set are made.

``python -m tests.benchmarks.time_left_of_assets`` makes those of the digits study several times: on the machine as it is, beside
processes that always occupy its cores, and beside processes that do so now and then. The estimate is that of the bar.
"""

import argparse
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from pathlib import Path

from cpsc.processors import num_processors
from tests.benchmarks.busy_machine import busy_loops
from tests.benchmarks.time_left import PARTS, STUDY, show
from tuning.display import Advance, Display
from tuning.study import load_study
from tuning.time_left import Pace
from tuning.trial import prepare

PERIOD_S = 10.0
"""Seconds of work, and then of rest, of the processes that come and go."""


class Watched(Display):
    """Says nothing, and notes for each bar how its estimates compare with the truth at `PARTS` of its work."""

    def __init__(self) -> None:
        super().__init__(quiet=True)
        self.ratios: dict[str, dict[float, float | None]] = {}

    @contextmanager
    def bar(self, title: str, total: int, *, done: int = 0) -> Iterator[Advance]:
        pace, estimates = Pace(total, time.monotonic(), done=done), dict[float, tuple[float, float | None]]()

        def advance(done: float, state: str) -> None:
            now = time.monotonic()
            pace.advance(done, now)
            for part in PARTS:
                if done >= part * total:
                    estimates.setdefault(part, (now, pace.left_s(now)))

        yield advance
        end = time.monotonic()
        self.ratios[title] = {part: left and left / (end - now) for part, (now, left) in estimates.items()}


@contextmanager
def loops_now_and_then() -> Iterator[None]:
    """Keep the cores busy every other `PERIOD_S`, until the block ends."""
    ended = threading.Event()

    def work() -> None:
        while not ended.is_set():
            with busy_loops(num_processors()):
                ended.wait(PERIOD_S)
            ended.wait(PERIOD_S)

    worker = threading.Thread(target=work)
    worker.start()
    try:
        yield
    finally:
        ended.set()
        worker.join()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=5)
    options = parser.parse_args()
    machines: dict[str, Callable[[], AbstractContextManager[None]]] = {
        "as it is": nullcontext,
        "busy": lambda: busy_loops(num_processors()),
        "busy now and then": loops_now_and_then,
    }
    for machine, beside in machines.items():
        with beside():
            found = [made() for _ in range(options.rounds)]
        for title in found[0]:
            show(f"{title}, {machine}", [ratios[title] for ratios in found])


def made() -> dict[str, dict[float, float | None]]:
    """Make teacher and probe set in an empty folder -> the ratios of estimate and truth by bar."""
    display = Watched()
    with tempfile.TemporaryDirectory(prefix="cpsc-bench-") as folder:
        study = load_study(STUDY, [f"storage={Path(folder) / 'runs'}", "objective=probe_overlap"])
        prepare(study, display)
    return display.ratios


if __name__ == "__main__":
    main()
