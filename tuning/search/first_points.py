"""First points of a search: those that the study lists, plus random ones if more must be known in advance."""

import logging
from typing import Any

import optuna

from cpsc.rng import derive_seed
from tuning.process_settings import log_levels
from tuning.search.drawing import draw
from tuning.search.optuna_space import to_optuna
from tuning.study import Study
from tuning.trial.limits import Limits


def first_points(study: Study, count: int, limits: Limits | None = None) -> list[dict[str, Any]]:
    """At least `count` points that the search begins with: the study's own, then random ones that depend on no result.

    The random ones respect `limits`; the study's own already do.
    """
    points = [dict(point) for point in study.start]
    # A stream of its own, or the search itself would draw the same points again.
    sampler = optuna.samplers.RandomSampler(seed=derive_seed(study.search.seed, "first points") % 2**32)
    with log_levels({"optuna": logging.WARNING}):  # Optuna logs the creation of a study
        drawn = optuna.create_study(sampler=sampler, direction="maximize")
    space = to_optuna(study.space)
    while len(points) < count:
        trial = drawn.ask()
        draw(trial, study.space, space)
        if limits is None or limits.admit(trial.params):
            points.append(dict(trial.params))
    return points


def begins_with(study: Study, limits: Limits | None = None) -> list[dict[str, Any]]:
    """The points that the search of `study` begins with, within `limits`; its examiners are some of them."""
    return first_points(study, study.examiners.count if study.has_examiners else 0, limits)
