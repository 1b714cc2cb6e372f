"""First points of a search: those that the study lists, and as many more as must be known before it begins."""

import logging
from typing import Any

import optuna

from cpsc.rng import derive_seed
from tuning.process_settings import log_levels
from tuning.search.optuna_search import draw
from tuning.search.optuna_space import to_optuna
from tuning.study import Study


def first_points(study: Study, count: int) -> list[dict[str, Any]]:
    """At least `count` points that the search begins with: the study's own, then random ones, whatever the trials find."""
    points = [dict(point) for point in study.start]
    # Not the stream that the search itself draws from: it would draw the same points again.
    sampler = optuna.samplers.RandomSampler(seed=derive_seed(study.search.seed, "first points") % 2**32)
    with log_levels({"optuna": logging.WARNING}):  # it narrates the making of a study
        drawn = optuna.create_study(sampler=sampler, direction="maximize")
    space = to_optuna(study.space)
    while len(points) < count:
        trial = drawn.ask()
        draw(trial, study.space, space)
        points.append(dict(trial.params))
    return points
