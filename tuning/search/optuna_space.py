"""A study's search space as Optuna distributions."""

from collections.abc import Mapping
from typing import Any

from optuna.distributions import BaseDistribution
from ray.tune.search.optuna import OptunaSearch

from tuning.study.distributions import Distribution, to_tune


def to_optuna(space: Mapping[str, Distribution]) -> dict[str, BaseDistribution]:
    """Optuna distributions by dotted path, as Ray translates Tune's domains."""
    converted: dict[str, Any] = OptunaSearch.convert_search_space(to_tune(space))
    return converted
