"""Distances between points of a search space, on the space's own scale."""

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tuning.study.distributions import Distribution
from tuning.study.nested_keys import Point

Floats = NDArray[np.float64]


class SpaceDistances:
    """Euclidean distances from fixed points of a `space`.

    A number is scaled to its range, logarithmically if it is drawn so, so that the ends are 1 apart. Two values of a choice are
    0 or 1 apart, and a parameter that only one of two points has counts 1.
    """

    def __init__(self, space: Mapping[str, Distribution], points: Sequence[Point]) -> None:
        self._space = space
        self._columns = {path: [_place(domain, point, path) for point in points] for path, domain in space.items()}
        self._numbers = {path: _as_floats(self._columns[path]) for path, domain in space.items() if domain.sampler != "choice"}

    def to(self, point: Point) -> Floats:
        """The distance [N] of `point` from each of the fixed ones."""
        gaps = [self._gaps(path, _place(domain, point, path)) for path, domain in self._space.items()]
        return np.sqrt(np.sum(np.square(gaps), axis=0))

    def _gaps(self, path: str, place: Any) -> Floats:
        if place is None or path not in self._numbers:
            return np.array([float(other != place) for other in self._columns[path]])
        return np.nan_to_num(np.abs(self._numbers[path] - place), nan=1.0)


def _place(domain: Distribution, point: Point, path: str) -> Any:
    """Where the value lies in its range, from 0 to 1; an option with its type, because True is not 1; None if it is absent."""
    if path not in point:
        return None
    value = point[path]
    if domain.sampler == "choice":
        return type(value).__name__, value
    lower, upper = domain.edges
    scale = math.log if domain.sampler.startswith("log") else float
    return (scale(value) - scale(lower)) / (scale(upper) - scale(lower)) if upper > lower else 0.0


def _as_floats(places: Sequence[float | None]) -> Floats:
    return np.array([math.nan if place is None else place for place in places])
