"""A population of trials, for population based training: which parameters may change while training, and what it rules out."""

from collections.abc import Mapping
from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field

from cpsc.errors import ConfigError
from tuning.study.distributions import Distribution

POPULATION = "pbt"
"""Name of the scheduler that has one."""
WEIGHTS = "weights."
CHANGEABLE_ENDINGS = ("lr", "temperature")
SMALLEST = 2
"""Of one there is nobody to take over."""


class PopulationConfig(BaseModel):
    """When a population is compared, and what comes of it."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False, strict=True)

    interval: int | None = Field(default=None, ge=1)
    """Epochs between comparisons; default: a tenth of a trial's."""
    quantile: float = Field(default=0.25, gt=0, le=0.5)
    """The share of the population that takes over the state of others, and that of those that are taken over."""
    resample: float = Field(default=0.25, ge=0, le=1)
    """The probability with which a value is drawn anew; else it is multiplied by one of `factors`."""
    factors: list[Annotated[float, Field(gt=0, le=1000)]] = Field(default=[0.8, 1.2], min_length=1)

    def comparisons(self, epochs: int) -> range:
        """The epochs after which a population is compared, where trials have so many."""
        return range(interval := self.interval or max(1, epochs // 10), epochs, interval)

    @property
    def changed(self) -> list[str]:
        """The settings that are not as they are by default."""
        return [name for name, field in PopulationConfig.model_fields.items() if getattr(self, name) != field.default]


def is_changeable(path: str) -> bool:
    """Whether a run can go on with another value of the parameter: a loss weight, a temperature or a learning rate."""
    return path.startswith(WEIGHTS) or path.rpartition(".")[2].rpartition("_")[2] in CHANGEABLE_ENDINGS


def check_population(
    prune: PopulationConfig, space: Mapping[str, Distribution], *, size: int, epochs: int, without: Mapping[str, object]
) -> None:
    """Raise ConfigError where so many trials of `epochs` can be no population. `without`: what a study of one must leave out."""
    if size < SMALLEST:
        raise ConfigError(f"search.num_trials: is the size of the population, must be >= {SMALLEST}, got {size}")
    if odd := [name for name, value in without.items() if value is not None]:
        reason = "all of the first points run to their end, and no other is proposed"
        raise ConfigError(f"{odd[0]}: must be left out with prune.scheduler {POPULATION}, where {reason}")
    if not prune.comparisons(epochs):
        raise ConfigError(f"prune.interval: must be < config.epochs ({epochs}), or nothing is compared, got {prune.interval}")
    for path, domain in space.items():
        _check_parameter(path, domain)


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
