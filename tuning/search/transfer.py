"""Transfer from trials of earlier launches, which guide a search while it has few trials of its own."""

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
"""This many of the best earlier trials are run again first: a single one may have been lucky, or good for its teacher only."""
DIVERGED = (0, 0.0)
"""The result of a trial that diverged: worse than all others, at any epoch."""


@dataclass(frozen=True)
class Advisor:
    """Replaces every other random first point of a search by a proposal of TPE, based on the earlier trials and the search's own.

    Scores are standardised within their launch, to the share of its trials that are no better: between teachers, datasets and
    objectives, absolute values differ, but rankings hardly do. Every other random point stays, and there are no proposals once the
    search has `startup_trials` of its own, so that a misleading launch costs little. `space`: `domains` as Optuna distributions.
    """

    earlier: Transferred
    domains: Mapping[str, Distribution]
    space: Mapping[str, BaseDistribution]
    startup_trials: int
    seed: int

    def point(self, own: optuna.Study, number: int) -> Point | None:
        """The point for the trial `number`, or None to leave it to the search's own sampler. `own`: the search so far."""
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
    """The trials that ended with a result, each with its standardised score."""
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

    A trial that ran longer counts as better, since the other was pruned before; TPE does the same.
    """
    ranks = {result: rank for rank, result in enumerate(sorted(set(results)), start=1)}
    return [(ranks[result] - 0.5) / len(ranks) for result in results]


def best_points(transferred: Transferred) -> list[dict[str, Any]]:
    """The points to begin with: the best of each launch in turn, then the second best, without duplicates."""
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
