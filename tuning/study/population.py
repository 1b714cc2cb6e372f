"""Settings of population based training: which parameters may change during training, and which settings it excludes."""

from collections.abc import Mapping
from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field

from cpsc.errors import ConfigError
from tuning.study.distributions import Distribution

POPULATION = "pbt"
"""Name of the scheduler with a population."""
WEIGHTS = "weights."
CHANGEABLE_ENDINGS = ("lr", "temperature")
SMALLEST = 2
"""A single trial has no other to take over from."""


class PopulationConfig(BaseModel):
    """When a population is compared, and what happens then."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False, strict=True)

    interval: int | None = Field(default=None, ge=1)
    """Epochs between comparisons; default: a tenth of a trial's epochs."""
    quantile: float = Field(default=0.25, gt=0, le=0.5)
    """The worst share of the population, which takes over the state of trials in the best share, of the same size."""
    resample: float = Field(default=0.25, ge=0, le=1)
    """Probability that a value is drawn anew; otherwise it is multiplied by one of `factors`."""
    factors: list[Annotated[float, Field(gt=0, le=1000)]] = Field(default=[0.8, 1.2], min_length=1)

    def comparisons(self, epochs: int) -> range:
        """The epochs after which a population is compared, for trials of `epochs`."""
        return range(interval := self.interval or max(1, epochs // 10), epochs, interval)

    @property
    def changed(self) -> list[str]:
        """The settings that differ from their defaults."""
        return [name for name, field in PopulationConfig.model_fields.items() if getattr(self, name) != field.default]


def is_changeable(path: str) -> bool:
    """Whether the parameter may change during training: a loss weight, a temperature or a learning rate."""
    return path.startswith(WEIGHTS) or path.rpartition(".")[2].rpartition("_")[2] in CHANGEABLE_ENDINGS


def check_population(
    prune: PopulationConfig, space: Mapping[str, Distribution], *, size: int, epochs: int, without: Mapping[str, object]
) -> None:
    """Raise ConfigError if `size` trials of `epochs` cannot form a population. `without`: settings that must be left out."""
    if size < SMALLEST:
        raise ConfigError(f"search.num_trials: is the size of the population, must be >= {SMALLEST}, got {size}")
    if odd := [name for name, value in without.items() if value is not None]:
        reason = "the first points all run to their end and no others are proposed"
        raise ConfigError(f"{odd[0]}: must be left out with prune.scheduler {POPULATION}, where {reason}")
    if not prune.comparisons(epochs):
        raise ConfigError(f"prune.interval: must be < config.epochs ({epochs}), or nothing is compared, got {prune.interval}")
    for path, domain in space.items():
        _check_parameter(path, domain)


def _check_parameter(path: str, domain: Distribution) -> None:
    where = f"space.{path}"
    if not is_changeable(path):
        raise ConfigError(
            f"{where}: cannot change during training, as prune.scheduler {POPULATION} requires; only loss weights (weights.*), "
            f"temperatures and learning rates can, so set it under config"
        )
    if domain.when:
        raise ConfigError(
            f"{where}.when: must be left out with prune.scheduler {POPULATION}, where trials take over all values of others"
        )
    if any(isinstance(edge, bool) or not isinstance(edge, int | float) or edge <= 0 for edge in domain.edges):
        raise ConfigError(
            f"{where}: {domain} must be above 0 with prune.scheduler {POPULATION}: values are multiplied, and the parts of a term "
            f"with weight 0 are not trained"
        )
