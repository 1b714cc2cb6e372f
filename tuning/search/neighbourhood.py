"""Neighbourhoods of points: drawing values near given ones, and the density of such values."""

from collections.abc import Mapping
from dataclasses import dataclass
from statistics import NormalDist
from typing import Any

import numpy as np

from tuning.study.distributions import Distribution
from tuning.study.unit_interval import position_of, value_at

TINY = 1e-12
"""Smallest probability used: normal distributions have no quantile for 0 or 1."""


@dataclass(frozen=True)
class Neighbourhood:
    """Independent distributions of parameters, each around its value in `centre`, or uniform if it has none.

    A number is drawn from a normal distribution, truncated to its range, with the standard deviation `deviation`, as a share of the
    range on the scale that it is drawn on. In a choice, the centre's option is 1 / `deviation` times as likely as each other one.
    """

    space: Mapping[str, Distribution]
    centre: Mapping[str, Any]
    deviation: float

    def draw(self, path: str, rng: np.random.Generator) -> Any:
        """Draw a value of the parameter at `path`."""
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
        """The density of `value` relative to a uniform distribution of the parameter."""
        domain = self.space[path]
        if domain.sampler == "choice":
            return self._probability(path, value) * len(domain.arguments)
        if path not in self.centre:
            return 1.0
        normal, _, inside = self._normal(path)
        return normal.pdf(position_of(domain, value)) / inside

    def _normal(self, path: str) -> tuple[NormalDist, float, float]:
        """The normal distribution on the unit interval, and its probability below and inside the interval."""
        normal = NormalDist(position_of(self.space[path], self.centre[path]), self.deviation)
        below = normal.cdf(0.0)
        return normal, below, normal.cdf(1.0) - below

    def _probability(self, path: str, option: Any) -> float:
        num_options = len(self.space[path].arguments)
        if path not in self.centre:
            return 1 / num_options
        odds = 1 / self.deviation
        return (odds if option == self.centre[path] else 1.0) / (odds + num_options - 1)
