"""Trials of earlier launches: what they tell a search that has seen little of its own yet."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import optuna
from optuna.distributions import BaseDistribution
from optuna.trial import FrozenTrial, TrialState, create_trial

from tuning.launch.events import Transferred
from tuning.search.drawing import draw
from tuning.study.distributions import Distribution
from tuning.study.nested_keys import Point

START_POINTS = 3
"""Of the best earlier trials so many are run again before all else: one may have been lucky, or good for its teacher alone."""
DIVERGED = (0, 0.0)
"""The result of a trial that diverged: worse than all others, however far it went."""


@dataclass(frozen=True)
class Advisor:
    """Proposes, instead of every other of a search's random first points, what TPE makes of the earlier trials and its own.

    Scores are standardised within their launch, to the share of its trials that are no better: teachers, datasets and objectives
    differ in what is good, hardly in what is better. Once the search has `startup_trials` of its own it is left alone, and every
    other random point stays, so that a misleading launch costs little. `space`: `domains` as Optuna has them.
    """

    earlier: Transferred
    domains: Mapping[str, Distribution]
    space: Mapping[str, BaseDistribution]
    startup_trials: int
    seed: int

    def point(self, own: optuna.Study, number: int) -> Point | None:
        """What the trial `number` is to be at, or None where the search's own sampler is to say. `own`: the search so far."""
        if number >= self.startup_trials or number % 2 or not self.earlier.points:
            return None
        sampler = optuna.samplers.TPESampler(seed=self.seed + number, n_startup_trials=1)
        study = optuna.create_study(direction="maximize", sampler=sampler)
        study.add_trials([*self._earlier_trials(), *_standardised(own.get_trials(deepcopy=False))])
        trial = study.ask()
        draw(trial, self.domains, self.space)
        return dict(trial.params)

    def _earlier_trials(self) -> list[FrozenTrial]:
        return [
            create_trial(value=score, params=dict(point), distributions={path: self.space[path] for path in point})
            for point, score in zip(self.earlier.points, self.earlier.scores, strict=True)
        ]


def _standardised(trials: Sequence[FrozenTrial]) -> list[FrozenTrial]:
    """Those that have ended with a result, each with its standardised score."""
    ended = [trial for trial in trials if trial.state in (TrialState.COMPLETE, TrialState.PRUNED) and trial.intermediate_values]
    scores = standardise([_result(trial) for trial in ended])
    return [
        create_trial(value=score, params=trial.params, distributions=trial.distributions)
        for trial, score in zip(ended, scores, strict=True)
    ]


def _result(trial: FrozenTrial) -> tuple[int, float]:
    epoch, value = max(trial.intermediate_values.items())
    return (epoch, value) if value > 0 else DIVERGED


def standardise(results: Sequence[tuple[int, float]]) -> list[float]:
    """(last epoch, value there) of each trial of a launch -> the share of its trials that are no better, in (0, 1).

    A trial that went further counts as better: it was left to run where the other was pruned, as TPE takes it.
    """
    ranks = {result: rank for rank, result in enumerate(sorted(set(results)), start=1)}
    return [(ranks[result] - 0.5) / len(ranks) for result in results]


def best_points(transferred: Transferred) -> list[dict[str, Any]]:
    """The points to begin with: the best of each launch in turn, then the second ones, none twice."""
    by_source: dict[str, list[tuple[float, dict[str, Any]]]] = {}
    for point, score, source in zip(transferred.points, transferred.scores, transferred.sources, strict=True):
        by_source.setdefault(source, []).append((score, dict(point)))
    columns = [[point for _, point in sorted(found, key=lambda pair: -pair[0])] for found in by_source.values()]
    found: list[dict[str, Any]] = []
    for place in range(max(map(len, columns), default=0)):
        for column in columns:
            if place < len(column) and column[place] not in found:
                found.append(column[place])
    return found[:START_POINTS]
