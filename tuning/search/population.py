"""Population based training as a function of a launch's history: who takes over whom, and with which values it goes on.

Jaderberg et al. 2017 (arXiv:1711.09846), with truncation selection (sec. 4.1.1) and in step: a population is compared when all of
it has reached the same epoch. So what comes of it depends on scores, and not on who was faster, nor on who was killed.
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
    """What decides beside the scores: the study's settings, the ranges of its parameters, the length of its trials and its seed."""

    prune: PruneConfig
    space: Mapping[str, Distribution]
    epochs: int
    seed: int

    @classmethod
    def of(cls, study: Study) -> "PopulationRules | None":
        """Those of `study`; None where its trials are no population."""
        if study.prune.scheduler != POPULATION:
            return None
        return cls(study.prune, study.space, study.config.epochs, study.search.seed)

    @property
    def num_segments(self) -> int:
        """Parts of a trial, from one comparison to the next."""
        return len(self.prune.comparisons(self.epochs)) + 1

    def next_stop(self, epoch: int) -> int:
        """Where a trial that goes on behind `epoch` waits for the others, or ends."""
        return next((stop for stop in self.prune.comparisons(self.epochs) if stop > epoch), self.epochs)

    def waits(self, trial: TrialHistory, history: LaunchHistory) -> bool:
        """Whether `trial` stands where the population is still to be compared."""
        epoch, compared = trial.last_epoch, history.compared
        return epoch in self.prune.comparisons(self.epochs) and (compared is None or compared.epoch < epoch)

    def num_replaced(self, size: int) -> int:
        """How many of a population of `size` take over others."""
        return min(math.ceil(self.prune.quantile * size), size // 2)


def ranking(scores: Mapping[int, float]) -> list[int]:
    """The numbers of trials by their `scores`, best first; of equal ones the earlier."""
    return sorted(scores, key=lambda number: (-scores[number], number))


def due_exploits(history: LaunchHistory, rules: PopulationRules) -> dict[int, Exploit]:
    """By trial, what the last comparison in `history` makes it take over and the history does not tell yet."""
    compared = history.compared
    if compared is None:
        return {}
    points = {number: history.trials[number].schedule[-1].point for number in compared.ranking}
    found = exploits(compared.ranking, points, compared.epoch, rules)
    return {number: exploit for number, exploit in found.items() if history.trials[number].exploited_after < compared.epoch}


def exploits(ranked: Sequence[int], points: Mapping[int, Point], epoch: int, rules: PopulationRules) -> dict[int, Exploit]:
    """What each of the worst of `ranked` trials takes over: of the best, one that is drawn, at a point near that one's.

    `points`: what each was trained with up to `epoch`.
    """
    count = rules.num_replaced(len(ranked))
    found = {}
    for number in ranked[len(ranked) - count :]:
        rng = random.Random(f"{rules.seed} {number} {epoch}")  # whoever asks, and when
        donor = ranked[rng.randrange(count)]
        found[number] = Exploit(epoch, donor, explored(points[donor], rules, rng))
    return found


def explored(point: Point, rules: PopulationRules, rng: random.Random) -> dict[str, Any]:
    """A point near `point`: each value drawn anew with probability `resample`, else times a factor, or the next of a choice."""
    return {
        path: _drawn(domain, rng) if rng.random() < rules.prune.resample else _moved(value, domain, rules, rng)
        for path, value in point.items()
        for domain in [rules.space[path]]
    }


def _drawn(domain: Distribution, rng: random.Random) -> Any:
    return rng.choice(domain.arguments) if domain.sampler == "choice" else value_at(domain, rng.random())


def _moved(value: Any, domain: Distribution, rules: PopulationRules, rng: random.Random) -> Any:
    """Near `value`, and in `domain`."""
    if domain.sampler != "choice":
        return value_at(domain, position_of(domain, value * rng.choice(rules.prune.factors)))
    options = sorted(domain.arguments)
    place = options.index(value) + rng.choice((-1, 1))
    return options[min(max(place, 0), len(options) - 1)]
