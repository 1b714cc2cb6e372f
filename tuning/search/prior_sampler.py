"""Published values as a prior: points near them first, then whichever of prior, best point and TPE has paid.

After PriorBand (Mallik et al. 2023, arXiv:2306.12370), with TPE where PriorBand draws at random: without a model it took 1.6 times
TPE's trials where the published values were far off (docs/samplers.md has what was measured).
"""

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
from optuna.distributions import BaseDistribution
from optuna.samplers import BaseSampler, TPESampler
from optuna.study import Study
from optuna.trial import FrozenTrial, TrialState

from tuning.search.neighbourhood import Neighbourhood
from tuning.search.optuna_space import to_optuna
from tuning.study.distributions import Distribution
from tuning.study.nested_keys import Point
from tuning.study.published_point import METHOD_PATH, in_order_of_drawing

ETA = 3
"""One in so many trials is a good one; as many must have been compared before any is called so (PriorBand's eta)."""
NEAR = (1, 2)
"""Places, after the points that others have named, of points near the published values, at half the prior's deviation, if the prior
leads. TPE proposes the point at place 0, against which that is judged, and all of them if the prior does not lead."""
LARGEST_SHARE = 0.5
"""Of the proposals that prior and best point make; PriorBand's at its first rung, which is where all trials begin here."""
MUTATION_RATE, MUTATION_DEVIATION = 0.5, 0.25
"""PriorBand's: which share of the best point's parameters is drawn anew, and how far from what they were."""
MAX_DRAWS = 100
"""Of a point that is none of those tried: a small space may have no other."""

Around = Callable[[Point], Neighbourhood]
"""The neighbourhood from which the next parameter is drawn, beside those that a point has already."""
Draw = Callable[[], dict[str, Any]]


class PriorSampler(BaseSampler):
    """Optuna's sampler of points near what is published, as long as that pays, and of TPE's.

    `published`: the prior's centre by the method that a point has, under None where it has none. `deviation`: the prior's, a share
    of each range. `levels`: the epochs at which trials are compared. `num_first`: points that others have named, with which the
    search begins.
    """

    def __init__(
        self,
        space: Mapping[str, Distribution],
        published: Mapping[str | None, Mapping[str, Any]],
        *,
        deviation: float,
        levels: Sequence[int],
        num_first: int,
        tpe: TPESampler,
        seed: int,
    ) -> None:
        self._space = {path: space[path] for path in in_order_of_drawing(space)}
        self._distributions = to_optuna(self._space)
        self._published = published
        self._deviation = deviation
        self._levels = levels
        self._num_first = num_first
        self._tpe = tpe
        self._seed = seed

    def infer_relative_search_space(self, study: Study, trial: FrozenTrial) -> dict[str, BaseDistribution]:
        return self._distributions

    def sample_relative(self, study: Study, trial: FrozenTrial, search_space: dict[str, BaseDistribution]) -> dict[str, Any]:
        rng = np.random.default_rng([self._seed, trial.number])  # a search that is rebuilt draws no number twice
        others = [other for other in study.get_trials(deepcopy=False) if other.number != trial.number]
        if (draw := self._next_draw(trial.number, others, rng)) is None:
            return self._tpe.sample_relative(study, trial, self._tpe.infer_relative_search_space(study, trial))
        tried = [other.params for other in others]
        draws = [draw()]
        while draws[-1] in tried and len(draws) < MAX_DRAWS:
            draws.append(draw())
        return draws[-1]

    def sample_independent(self, study: Study, trial: FrozenTrial, param_name: str, param_distribution: BaseDistribution) -> Any:
        """TPE's: before it has a model, of conditional parameters, and where a waiting trial leaves some open."""
        return self._tpe.sample_independent(study, trial, param_name, param_distribution)

    def reseed_rng(self) -> None:
        self._tpe.reseed_rng()

    def _next_draw(self, number: int, others: Sequence[FrozenTrial], rng: np.random.Generator) -> Draw | None:
        """What draws trial `number`; None where it is TPE's turn."""
        place = number - self._num_first
        if place < 0 or (place in NEAR and self._leads(others)):
            return lambda: self._drawn(self._prior(self._deviation / 2), rng)
        if place <= max(NEAR):
            return None
        ranked = best_first(others, self._levels)
        match rng.choice(["tpe", "prior", "incumbent"], p=self.shares(ranked)):
            case "prior":
                return lambda: self._drawn(self._prior(self._deviation), rng)
            case "incumbent":
                return lambda: self._mutated(ranked[0].params, rng)
        return None

    def _leads(self, trials: Sequence[FrozenTrial]) -> bool:
        """Whether the best of `trials` at the first level is likelier under the prior than by uniform draws, or there is none."""
        ranked = _best_first_at(self._levels[0], trials)
        return not ranked or _density(self._prior(self._deviation), ranked[0].params) > 1

    def shares(self, ranked: Sequence[FrozenTrial]) -> tuple[float, float, float]:
        """How often the next point is TPE's, of the prior, and a mutation of the best of `ranked`; they add up to 1.

        What the prior has paid is its part in making the best 1 / eta of `ranked` likely, the better ones counting more, beside
        the neighbourhood of the very best.
        """
        if not ranked:
            return 1 - LARGEST_SHARE, LARGEST_SHARE, 0.0
        best = ranked[: max(ETA, len(ranked) // ETA)]
        of_prior = self._support(self._prior(self._deviation), best)
        paid = of_prior / (of_prior + self._support(self._incumbent(best[0].params), best))
        near = min(paid, LARGEST_SHARE)
        return 1 - near, near * paid, near * (1 - paid)

    def _support(self, around: Around, best: Sequence[FrozenTrial]) -> float:
        places = range(len(best), 0, -1)
        return sum(place * _density(around, trial.params) for place, trial in zip(places, best, strict=True))

    def _prior(self, deviation: float) -> Around:
        return lambda point: Neighbourhood(self._space, self._published[point.get(METHOD_PATH)], deviation)

    def _incumbent(self, best: Point) -> Around:
        """Around the point `best`; what exists only beside other values than its own, around what is published."""
        return lambda point: Neighbourhood(self._space, {**self._published[point.get(METHOD_PATH)], **best}, MUTATION_DEVIATION)

    def _mutated(self, best: Point, rng: np.random.Generator) -> dict[str, Any]:
        paths = list(best)
        anew = {path for path in paths if rng.random() < MUTATION_RATE} or {paths[rng.integers(len(paths))]}
        return self._drawn(self._incumbent(best), rng, {path: value for path, value in best.items() if path not in anew})

    def _drawn(self, around: Around, rng: np.random.Generator, kept: Point | None = None) -> dict[str, Any]:
        """A point with the values of `kept`; all others of those that exist are drawn."""
        kept = kept or {}
        point: dict[str, Any] = {}
        for path, domain in self._space.items():
            if domain.is_active(point):
                point[path] = kept[path] if path in kept else around(point).draw(path, rng)
        return point


def best_first(trials: Sequence[FrozenTrial], levels: Sequence[int]) -> list[FrozenTrial]:
    """Those that have reached the highest of the `levels` that at least `ETA` have reached, by what they had there."""
    rankings = (_best_first_at(level, trials) for level in reversed(levels))
    return next((ranked for ranked in rankings if len(ranked) >= ETA), [])


def _best_first_at(level: int, trials: Sequence[FrozenTrial]) -> list[FrozenTrial]:
    """Those of `trials` that have reached `level`, by what they had there; of equal ones, the earlier first."""
    reached = [(value, trial) for trial in trials if (value := _value_at(trial, level)) is not None]
    return [trial for value, trial in sorted(reached, key=lambda pair: (-pair[0], pair[1].number))]


def _value_at(trial: FrozenTrial, level: int) -> float | None:
    """What `trial` had reported after `level` epochs; None where it failed, or had not come so far."""
    value = trial.intermediate_values.get(level)
    if value is None or trial.state is TrialState.FAIL:
        return None
    # Values are running bests: the last is less than an earlier one only where the trial has diverged, and stands for all then.
    return value if trial.value is None else min(value, trial.value)


def _density(around: Around, point: Point) -> float:
    neighbourhood = around(point)
    return math.prod(neighbourhood.density(path, value) for path, value in point.items())
