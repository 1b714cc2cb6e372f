"""Neighbourhoods of points: how a value near another one is drawn, and how likely that is."""

from collections.abc import Mapping
from dataclasses import dataclass
from statistics import NormalDist
from typing import Any

import numpy as np

from tuning.study.distributions import Distribution
from tuning.study.unit_interval import position_of, value_at

TINY = 1e-12
"""Normal distributions have no quantile of 0, nor of 1."""


@dataclass(frozen=True)
class Neighbourhood:
    """Independent distributions of parameters, each around the value that `centre` has for it; uniform where it has none.

    A number is normal within its range, with the standard deviation `deviation`, a share of the range on the scale on which it
    is drawn. Of a choice the centre's option has 1 / `deviation` times the probability of each other one.
    """

    space: Mapping[str, Distribution]
    centre: Mapping[str, Any]
    deviation: float

    def draw(self, path: str, rng: np.random.Generator) -> Any:
        """A value of the parameter at `path`."""
        domain = self.space[path]
        if domain.sampler == "choice":
            options = domain.arguments
            return options[rng.choice(len(options), p=[self._probability(path, option) for option in options])]
        place = rng.random()
        if path in self.centre:
            normal, below, inside = self._normal(path)
            place = normal.inv_cdf(min(max(below + place * inside, TINY), 1 - TINY))
        return value_at(domain, min(max(place, 0.0), 1.0))

    def density(self, path: str, value: Any) -> float:
        """How many times likelier `value` is than if the parameter were uniform."""
        domain = self.space[path]
        if domain.sampler == "choice":
            return self._probability(path, value) * len(domain.arguments)
        if path not in self.centre:
            return 1.0
        normal, _, inside = self._normal(path)
        return normal.pdf(position_of(domain, value)) / inside

    def _normal(self, path: str) -> tuple[NormalDist, float, float]:
        """On the unit interval, and how much of it lies below and inside."""
        normal = NormalDist(position_of(self.space[path], self.centre[path]), self.deviation)
        below = normal.cdf(0.0)
        return normal, below, normal.cdf(1.0) - below

    def _probability(self, path: str, option: Any) -> float:
        num_options = len(self.space[path].arguments)
        if path not in self.centre:
            return 1 / num_options
        odds = 1 / self.deviation
        return (odds if option == self.centre[path] else 1.0) / (odds + num_options - 1)
