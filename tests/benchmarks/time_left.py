"""How accurate the estimate of the time left is, at several moments of finished sweeps.

``python -m tests.benchmarks.time_left JOURNAL ...`` replays recorded launches event by event and asks for the estimate at fractions
of each attempt's time; ``--simulated N`` adds N sweeps of the digits study on recorded curves, pruned by the real ASHA, on a
machine that is idle, always busy, and busy now and then. Nothing is trained.
"""

import argparse
import itertools
import random
import statistics
from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from tuning.launch import Journal, LaunchHistory
from tuning.launch.events import AttemptStart, Event, LaunchEnd, LaunchStart, Proposed, TrialEnd
from tuning.search.asha import rungs_of
from tuning.search.samplers import learns_after
from tuning.simulation.lookup import CurveLookup
from tuning.simulation.record import SECONDS, Record, RecordedCurves
from tuning.simulation.sweep import simulate_sweep
from tuning.study import load_study
from tuning.study.config import PruneConfig, SearchConfig
from tuning.study.nested_keys import Point
from tuning.study.yaml_loader import load_yaml
from tuning.sweep.forecast import Forecast, Plan, plan_of

STUDY = Path(__file__).parents[2] / "search_spaces" / "digits.yaml"
RECORD = Path(__file__).parents[1] / "recorded" / "digits.parquet"
PARTS = (0.1, 0.25, 0.5, 0.75)
WITHIN = 1.5
"""Largest factor by which an estimate may be too long or too short and still be useful."""
BUSY = 2.0
"""Factor by which everything takes longer while the machine has other work."""
SHORTEST_S = 60.0
"""Shorter attempts are left out, because nobody needs an estimate for them."""
Warp = Callable[[float], float]


@dataclass(frozen=True)
class Attempt:
    """An attempt that finished its launch: its events and those of earlier attempts; when it began and its last trial ended."""

    name: str
    events: Sequence[Event]
    plan: Plan
    begun: float
    ended: float


def attempts_of(events: Sequence[Event], name: str, plan: Plan) -> Iterator[Attempt]:
    """The attempts that finished the launch."""
    begun = 0.0
    for index, event in enumerate(events):
        if isinstance(event, AttemptStart):
            begun = event.time
        if isinstance(event, LaunchEnd) and event.status == "FINISHED":
            so_far = events[: index + 1]
            ended = max((one.time for one in so_far if isinstance(one, TrialEnd)), default=begun)
            searched = sum(isinstance(one, Proposed) and one.finalist_of is None for one in so_far)
            if ended - begun >= SHORTEST_S:
                own = [one for one in so_far if one.time >= begun]
                yield Attempt(name, so_far, replace(plan, num_trials=searched, **finalists_in(own, plan.epochs)), begun, ended)


def finalists_in(events: Sequence[Event], epochs: int) -> dict[str, int]:
    """The number of finalists' runs, and their length."""
    lengths = [
        event.point.get("epochs", epochs) for event in events if isinstance(event, Proposed) and event.finalist_of is not None
    ]
    return {"finalists": len(lengths), "finalist_epochs": max(lengths, default=epochs)}


def recorded_plan(events: Sequence[Event]) -> Plan:
    """The plan of the launch's study, without budgets; the number of trials follows from its events."""
    start = next(event for event in events if isinstance(event, LaunchStart))
    study, epochs = load_yaml(start.study), int(start.params["epochs"])
    prune = PruneConfig(**study.get("prune", {}))
    return Plan(0, epochs, rungs_of(prune, epochs), prune.reduction_factor, learns_after(SearchConfig(**study["search"])))


def estimates(attempt: Attempt) -> dict[float, float | None]:
    """For each fraction of the attempt's time, the ratio of the estimate to the truth; None if there is no estimate."""
    forecast, found, waiting = Forecast(attempt.plan), {}, list(attempt.events)
    for part in PARTS:
        now = attempt.begun + part * (attempt.ended - attempt.begun)
        past = [event for event in waiting if event.time <= now]
        waiting = waiting[len(past) :]
        forecast.hear(past, attempt.plan.epochs)
        left = forecast.left(now)
        found[part] = None if left.seconds is None else left.seconds / (attempt.ended - now)
    return found


def recorded(journal: Path) -> Iterator[Attempt]:
    """The attempts of the launch with that journal."""
    events = list(Journal(journal.parent).events())
    yield from attempts_of(events, journal.parent.name, recorded_plan(events))


def simulated(record: Record, neighbours: int, seed: int, warp: Warp, name: str, *settings: str) -> Iterator[Attempt]:
    """A sweep of the digits study, whose trials differ in their epoch times; `warp` converts its time to that of a machine."""
    study = load_study(STUDY, [f"search.seed={seed}", *settings])
    draws, lookup = random.Random(seed), CurveLookup(record, study.space, neighbours=neighbours)

    def answer(point: Point) -> RecordedCurves:
        curves, usual = lookup(point), 20.0 * draws.lognormvariate(0.0, 0.2)
        seconds = [usual * draws.lognormvariate(0.0, 0.1) for _ in curves.values[SECONDS]]
        return replace(curves, values={**curves.values, SECONDS: seconds})

    events = [replace(event, time=warp(event.time)) for event in simulate_sweep(study, answer, workers=2)]
    yield from attempts_of(events, name, plan_of(study, LaunchHistory()))


def idle(seed: int) -> Warp:
    """A machine without other work."""
    del seed
    return lambda time: time


def busy(seed: int) -> Warp:
    """A machine that always has other work."""
    del seed
    return lambda time: BUSY * time


def busy_now_and_then(seed: int) -> Warp:
    """A machine whose other work comes and goes every few minutes."""
    draws = random.Random(seed)
    marks = list(itertools.accumulate((draws.uniform(60, 300) for _ in range(200)), initial=0.0))

    def warp(time: float) -> float:
        passed = [min(time, end) - begin for begin, end in itertools.pairwise(marks) if begin < time]
        return sum(length * (BUSY if index % 2 else 1.0) for index, length in enumerate(passed))

    return warp


SEARCHES = {
    "16 random trials": ["search.sampler=random"],
    "40 random trials": ["search.sampler=random", "search.num_trials=40"],
    "16 trials of TPE": [],
    "40 trials of TPE": ["search.num_trials=40"],
    "40 trials of the prior": ["search.num_trials=40", "search.sampler=prior"],
}
"""Searches to simulate. TPE's later trials get better and better, so fewer and fewer of them are pruned."""
MACHINES = {"idle": idle, "busy": busy, "busy now and then": busy_now_and_then}


def is_within(ratio: float | None) -> bool:
    """Whether the estimate is useful."""
    return ratio is not None and 1 / WITHIN <= ratio <= WITHIN


def show(group: str, found: Sequence[dict[float, float | None]]) -> None:
    """Print one line for a group: at each fraction, how many estimates are useful, and their median ratio to the truth."""
    cells = []
    for part in PARTS:
        ratios = [one[part] for one in found]
        known = [ratio for ratio in ratios if ratio]
        middle = f"{statistics.median(known):.2f}" if known else "-"
        cells.append(f"{100 * part:.0f} %: {sum(map(is_within, ratios))} of {len(ratios)}, median {middle}")
    print(f"{group}: " + "; ".join(cells), flush=True)


def main() -> None:
    """Print the result of each recorded attempt, and one line per group."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("journals", nargs="*", type=Path)
    parser.add_argument("--simulated", type=int, default=0, metavar="N")
    parser.add_argument("--neighbours", type=int, default=5, help="recorded trials that answer a point together")
    options = parser.parse_args()
    groups: dict[str, list[dict[float, float | None]]] = defaultdict(list)
    for attempt in itertools.chain.from_iterable(map(recorded, options.journals)):
        found = estimates(attempt)
        words = ", ".join(f"{100 * part:.0f} % {'-' if ratio is None else f'{ratio:.2f}'}" for part, ratio in found.items())
        print(f"{attempt.name}, {attempt.ended - attempt.begun:.0f} s: {words}")
        groups["recorded"].append(found)
    record = Record.load(RECORD)
    for (machine, warp), (search, settings) in itertools.product(MACHINES.items(), SEARCHES.items()):
        for seed in range(options.simulated):
            groups[f"{search}, {machine}"] += map(
                estimates, simulated(record, options.neighbours, seed, warp(seed), machine, *settings)
            )
    for group, found in groups.items():
        show(group, found)


if __name__ == "__main__":
    main()
