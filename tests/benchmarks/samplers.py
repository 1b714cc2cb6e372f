"""Trials until a search reaches a target, by sampler, with published values near the best ones, halfway, and far off.

``python -m tests.benchmarks.samplers --seeds 20`` proposes points for an artificial objective: a bell over six logarithmic ranges,
in which two parameters count four times as much as two others, with noise on the reported values. Nothing is trained. `start` is
TPE with the published point as its first point, as in studies with ``start: [{}]``.
"""

import argparse
import functools
import logging
import math
import statistics
from collections.abc import Callable, Mapping

import numpy as np
import optuna
from optuna.samplers import BaseSampler, GPSampler, RandomSampler, TPESampler

from tuning.search.optuna_search import draw
from tuning.search.optuna_space import to_optuna
from tuning.search.prior_sampler import PriorSampler
from tuning.study.distributions import Distribution
from tuning.study.nested_keys import Point
from tuning.study.unit_interval import position_of, value_at

BEST = (0.7, 0.3, 0.6, 0.4, 0.55, 0.65)
"""Position of the optimum in each parameter's range."""
CURVATURES = (6.0, 6.0, 3.0, 3.0, 1.5, 1.5)
SPACE = {f"p{place}": Distribution("loguniform", (0.1, 10.0)) for place in range(len(BEST))}
NOISE = 0.02
STARTUP_TRIALS = 10
PUBLISHED = {
    "near": (0.8, 0.2, 0.7, 0.5, 0.45, 0.55),
    "halfway": (0.45, 0.55, 0.35, 0.65, 0.3, 0.9),
    "far off": (0.02, 0.98, 0.02, 0.98, 0.02, 0.98),
}
TARGETS = (0.7, 0.8, 0.85, 0.9)


def point_at(positions: tuple[float, ...]) -> dict[str, float]:
    """The point at these positions in the ranges."""
    return {path: value_at(domain, position) for (path, domain), position in zip(SPACE.items(), positions, strict=True)}


def objective(point: Point) -> float:
    """1 at the best point, 0 far from it."""
    places = (position_of(domain, point[path]) for path, domain in SPACE.items())
    return math.exp(-sum(curve * (place - best) ** 2 for curve, place, best in zip(CURVATURES, places, BEST, strict=True)))


def held(sampler: BaseSampler, first: Point | None, *, seed: int, num_trials: int) -> list[float]:
    """The best objective proposed so far, without noise, after each trial."""
    rng = np.random.default_rng(10_000 + seed)
    study = optuna.create_study(direction="maximize", sampler=sampler, pruner=optuna.pruners.NopPruner())
    if first is not None:
        study.enqueue_trial(dict(first))
    found: list[float] = []
    for _ in range(num_trials):
        trial = study.ask()
        draw(trial, SPACE, to_optuna(SPACE))
        value = objective(trial.params)
        reported = value + NOISE * rng.standard_normal()
        trial.report(reported, 1)
        study.tell(trial, reported)
        found.append(max([value, *found[-1:]]))
    return found


def trials_to(found: list[float], target: float) -> float:
    """The number of trials after which the target was reached; infinite if never."""
    return next((number for number, value in enumerate(found, start=1) if value >= target), math.inf)


def prior_sampler(published: Mapping[str, float], seed: int) -> PriorSampler:
    """The sampler as in a study with a single level."""
    return PriorSampler(SPACE, {None: published}, deviation=0.25, levels=[1], num_first=1, tpe=tpe(seed), seed=seed)


def tpe(seed: int) -> TPESampler:
    return TPESampler(seed=seed, n_startup_trials=STARTUP_TRIALS)


def gp(seed: int) -> GPSampler:
    return GPSampler(seed=seed, n_startup_trials=STARTUP_TRIALS)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=int, default=20)
    parser.add_argument("--trials", type=int, default=80)
    parser.add_argument("--only", default="", help="run only arms whose name contains this text")
    options = parser.parse_args()
    optuna.logging.set_verbosity(logging.WARNING)
    arms: dict[str, tuple[Callable[[int], BaseSampler], Point | None]] = {
        "random": (lambda seed: RandomSampler(seed=seed), None),
        "tpe": (tpe, None),
        "gp": (gp, None),
    }
    for name, positions in PUBLISHED.items():
        published = point_at(positions)
        arms[f"start {name} ({objective(published):.2f})"] = (tpe, published)
        arms[f"prior {name}"] = (functools.partial(prior_sampler, published), published)
    print("| sampler | after 8, 16, 32 trials | " + " | ".join(f"trials to {target}" for target in TARGETS) + " |", flush=True)
    print("|---|---|" + "---|" * len(TARGETS))
    for name, (build, first) in arms.items():
        if options.only not in name:
            continue
        runs = [held(build(seed), first, seed=seed, num_trials=options.trials) for seed in range(options.seeds)]
        after = ", ".join(f"{statistics.median(found[number - 1] for found in runs):.2f}" for number in (8, 16, 32))
        needed = (statistics.median(trials_to(found, target) for found in runs) for target in TARGETS)
        print(f"| {name} | {after} | " + " | ".join(f"{number:g}" for number in needed) + " |", flush=True)


if __name__ == "__main__":
    main()
