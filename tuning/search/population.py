"""Population based training as a function of a launch's history: which trial takes over which, and continues with which values.

Jaderberg et al. 2017 (arXiv:1711.09846), with truncation selection (sec. 4.1.1) and synchronous: a population is compared when all
its trials have reached the same epoch. So the result depends only on scores, not on which trials were faster or were killed.
"""

import math
import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from tuning.launch import LaunchHistory, TrialHistory
from tuning.lineage import Exploit, Point
from tuning.study import Study
from tuning.study.config import PruneConfig
from tuning.study.distributions import Distribution
from tuning.study.population import POPULATION
from tuning.study.unit_interval import position_of, value_at


@dataclass(frozen=True)
class PopulationRules:
    """What the decisions depend on besides scores: settings, parameter ranges, trial length and seed of the study."""

    prune: PruneConfig
    space: Mapping[str, Distribution]
    epochs: int
    seed: int

    @classmethod
    def of(cls, study: Study) -> "PopulationRules | None":
        """The rules of `study`; None if its trials are not a population."""
        if study.prune.scheduler != POPULATION:
            return None
        return cls(study.prune, study.space, study.config.epochs, study.search.seed)

    @property
    def num_segments(self) -> int:
        """Number of parts of a trial, each from one comparison to the next."""
        return len(self.prune.comparisons(self.epochs)) + 1

    def next_stop(self, epoch: int) -> int:
        """The epoch at which a trial that continues after `epoch` waits for the others, or ends."""
        return next((stop for stop in self.prune.comparisons(self.epochs) if stop > epoch), self.epochs)

    def waits(self, trial: TrialHistory, history: LaunchHistory) -> bool:
        """Whether `trial` is at an epoch where the population is still to be compared."""
        epoch, compared = trial.last_epoch, history.compared
        return epoch in self.prune.comparisons(self.epochs) and (compared is None or compared.epoch < epoch)

    def num_replaced(self, size: int) -> int:
        """How many trials of a population of `size` take over others."""
        return min(math.ceil(self.prune.quantile * size), size // 2)


def ranking(scores: Mapping[int, float]) -> list[int]:
    """Trial numbers by `scores`, best first; of equal ones, the earlier first."""
    return sorted(scores, key=lambda number: (-scores[number], number))


def due_exploits(history: LaunchHistory, rules: PopulationRules) -> dict[int, Exploit]:
    """The exploits, by trial, that follow from the last comparison in `history` and are not recorded there yet."""
    compared = history.compared
    if compared is None:
        return {}
    points = {number: history.trials[number].schedule[-1].point for number in compared.ranking}
    found = exploits(compared.ranking, points, compared.epoch, rules)
    return {number: exploit for number, exploit in found.items() if history.trials[number].exploited_after < compared.epoch}


def exploits(ranked: Sequence[int], points: Mapping[int, Point], epoch: int, rules: PopulationRules) -> dict[int, Exploit]:
    """The exploit of each of the worst `ranked` trials: a random one of the best, continued at a point near that one's.

    `points`: the values that each was trained with up to `epoch`.
    """
    count = rules.num_replaced(len(ranked))
    found = {}
    for number in ranked[len(ranked) - count :]:
        rng = random.Random(f"{rules.seed} {number} {epoch}")  # the same whenever it is computed
        donor = ranked[rng.randrange(count)]
        found[number] = Exploit(epoch, donor, explored(points[donor], rules, rng))
    return found


def explored(point: Point, rules: PopulationRules, rng: random.Random) -> dict[str, Any]:
    """A point near `point`: each value is drawn anew with probability `resample`, else multiplied, or the next option is taken."""
    return {
        path: _drawn(domain, rng) if rng.random() < rules.prune.resample else _moved(value, domain, rules, rng)
        for path, value in point.items()
        for domain in [rules.space[path]]
    }


def _drawn(domain: Distribution, rng: random.Random) -> Any:
    return rng.choice(domain.arguments) if domain.sampler == "choice" else value_at(domain, rng.random())


def _moved(value: Any, domain: Distribution, rules: PopulationRules, rng: random.Random) -> Any:
    """A value near `value` in `domain`."""
    if domain.sampler != "choice":
        return value_at(domain, position_of(domain, value * rng.choice(rules.prune.factors)))
    options = sorted(domain.arguments)
    place = options.index(value) + rng.choice((-1, 1))
    return options[min(max(place, 0), len(options) - 1)]
