"""Curves that nobody has trained, known from a point: what simulated sweeps are tried on."""

import math
import random
from typing import Any

from tuning.simulation.record import METRICS, SECONDS, Record, RecordedCurves
from tuning.study import Study
from tuning.study.distributions import Distribution
from tuning.study.nested_keys import Point
from tuning.study.yaml_loader import to_plain


def curves_at(study: Study, point: Point, *, number: int = 0) -> RecordedCurves:
    """Rising to a height that falls with the distance from the middle of each range; the test accuracy follows it closely.

    Later epochs tell a little more than earlier ones. Trials at the upper end of the first parameter take twice as long.
    """
    places = [_place(domain, point[path]) for path, domain in study.space.items()]
    height = math.exp(-2 * math.dist(places, [0.5] * len(places)) ** 2 / len(places))
    noise = random.Random(repr(sorted(point.items())))
    epochs = range(1, study.config.epochs + 1)
    score = [height * (1 - math.exp(-epoch / 2)) + 0.02 * noise.random() / epoch for epoch in epochs]
    values: dict[str, list[Any]] = {metric: [None] * len(epochs) for metric in METRICS}
    values |= {study.objective: score, "probe_kl": [1 - value for value in score]}
    values |= {"test_accuracy": [round(min(1.0, value + 0.01 * noise.random()), 3) for value in score]}
    values[SECONDS] = [1.0 + places[0]] * len(epochs)
    return RecordedCurves(number=number, point=dict(point), diverged=False, values=values)


def drawn_record(study: Study, count: int, *, seed: int = 0) -> Record:
    """Of `count` trials at random points."""
    draws = random.Random(seed)
    points = [{path: drawn(domain, draws) for path, domain in study.space.items()} for _ in range(count)]
    return Record(
        launch="drawn",
        objective=study.objective,
        epochs=study.config.epochs,
        space=to_plain(study.source["space"]),
        config=to_plain(study.source["config"]),
        trials=[curves_at(study, point, number=number) for number, point in enumerate(points)],
    )


def drawn(domain: Distribution, draws: random.Random) -> Any:
    """A value of `domain`, which has no condition."""
    lower, upper = domain.edges[0], domain.edges[-1]
    if domain.sampler == "choice":
        return draws.choice(domain.arguments)
    if domain.sampler.endswith("randint"):
        return draws.randint(lower, upper)
    return (
        math.exp(draws.uniform(math.log(lower), math.log(upper))) if domain.sampler == "loguniform" else draws.uniform(lower, upper)
    )


def _place(domain: Distribution, value: Any) -> float:
    if domain.sampler == "choice":
        return domain.arguments.index(value) / (len(domain.arguments) - 1)
    lower, upper = map(math.log, domain.edges) if domain.sampler.startswith("log") else domain.edges
    return ((math.log(value) if domain.sampler.startswith("log") else value) - lower) / (upper - lower)
