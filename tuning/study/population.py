"""A population of trials, for population based training: which parameters may change while training, and what it rules out."""

from collections.abc import Mapping
from typing import TYPE_CHECKING

from cpsc.errors import ConfigError
from tuning.study.distributions import Distribution

if TYPE_CHECKING:
    from tuning.study.config import PruneConfig, SearchConfig

POPULATION = "pbt"
"""Name of the scheduler that has one."""
OWN_SETTINGS = ("interval", "quantile", "resample", "factors")
WEIGHTS = "weights."
CHANGEABLE_ENDINGS = ("lr", "temperature")
SMALLEST = 2
"""Of one there is nobody to take over."""


def is_changeable(path: str) -> bool:
    """Whether a run can go on with another value of the parameter: a loss weight, a temperature or a learning rate."""
    return path.startswith(WEIGHTS) or path.rpartition(".")[2].rpartition("_")[2] in CHANGEABLE_ENDINGS


def check_population(prune: "PruneConfig", search: "SearchConfig", space: Mapping[str, Distribution], *, epochs: int) -> None:
    """Raise ConfigError where the study's trials can be no population, or where it has settings of one and is none."""
    if prune.scheduler != POPULATION:
        if odd := [name for name in OWN_SETTINGS if name in prune.model_fields_set]:
            raise ConfigError(f"prune.{odd[0]}: only scheduler {POPULATION} has it, got scheduler {prune.scheduler}; leave it out")
        return
    _check_search(search)
    if not prune.comparisons(epochs):
        raise ConfigError(f"prune.interval: must be < config.epochs ({epochs}), or nothing is compared, got {prune.interval}")
    for path, domain in space.items():
        _check_parameter(path, domain)


def _check_search(search: "SearchConfig") -> None:
    if search.num_trials < SMALLEST:
        raise ConfigError(f"search.num_trials: is the size of the population, must be >= {SMALLEST}, got {search.num_trials}")
    ended_by = {
        "finalists": search.finalists,
        "time_budget_s": search.time_budget_s,
        "epoch_budget": search.epoch_budget,
        "stop.trials_without_gain": search.stop.trials_without_gain,
        "stop.terminator": search.stop.terminator,
    }
    if odd := [name for name, value in ended_by.items() if value is not None]:
        reason = "no point is proposed behind the first ones, and all of them run to their end"
        raise ConfigError(f"search.{odd[0]}: must be left out with prune.scheduler {POPULATION}, where {reason}")


def _check_parameter(path: str, domain: Distribution) -> None:
    where = f"space.{path}"
    if not is_changeable(path):
        raise ConfigError(
            f"{where}: cannot change while a trial trains, as prune.scheduler {POPULATION} has it, only loss weights (weights.*), "
            f"temperatures and learning rates can; set it under config"
        )
    if domain.when:
        raise ConfigError(f"{where}.when: must be left out with prune.scheduler {POPULATION}, whose trials take over all values")
    if any(isinstance(edge, bool) or not isinstance(edge, int | float) or edge <= 0 for edge in domain.edges):
        raise ConfigError(
            f"{where}: {domain} must lie above 0 with prune.scheduler {POPULATION}: values are multiplied, and what belongs to a "
            f"term of weight 0 is not trained"
        )
