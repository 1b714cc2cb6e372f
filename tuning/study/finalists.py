"""Finalists: the best few points of a search, rerun under new seeds, so that the student is not chosen by luck."""

from collections.abc import Mapping
from typing import Any

from pydantic import BaseModel, ConfigDict, Field

from cpsc.errors import ConfigError
from tuning.outcome import LENGTH_PATH
from tuning.study.base_config import BaseConfig, build_config
from tuning.study.distributions import Distribution
from tuning.study.nested_keys import Point
from tuning.study.search_space import REPEATED_PATH


class FinalistConfig(BaseModel):
    """Number of finalists, seeds per finalist and epochs. The student is chosen by the mean over the seeds."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False, strict=True)

    top: int = Field(default=3, ge=1)
    seeds: int = Field(default=3, ge=1)
    epochs: int | None = Field(default=None, ge=1)
    """Epochs per run; default: as many as the search's trials have."""
    cpus: int | None = Field(default=None, ge=1)
    """CPU cores and threads of one run; default: those of a trial. Unlike many trials, few runs may not fill a machine."""

    @property
    def num_runs(self) -> int:
        return self.top * self.seeds

    def length(self, epochs: int) -> int:
        """Epochs of a run, in a study with `epochs` per trial."""
        return self.epochs or epochs


def finalist_points(point: Point, finalists: FinalistConfig, seed: int) -> list[dict[str, Any]]:
    """The points of a finalist's runs: `point` under the seeds that follow `seed`, the seed of the searched trials."""
    length = {} if finalists.epochs is None else {LENGTH_PATH: finalists.epochs}
    return [{**point, REPEATED_PATH: seed + place, **length} for place in range(1, finalists.seeds + 1)]


def searched_part(point: Point) -> dict[str, Any]:
    """The part of a finalist's `point` that the search has chosen."""
    return {path: value for path, value in point.items() if path not in (REPEATED_PATH, LENGTH_PATH)}


def check_finalists(finalists: FinalistConfig | None, space: Mapping[str, Distribution], base: BaseConfig) -> None:
    """Raise ConfigError if the finalists cannot run."""
    if finalists is None:
        return
    if REPEATED_PATH in space:
        raise ConfigError(
            f"search.finalists: rerun points under new seeds, as the grid does with space.{REPEATED_PATH}; leave out one of the two"
        )
    if finalists.epochs is not None:
        methods = [{"method": method} for method in space["method"].arguments] if "method" in space else [{}]
        try:
            for point in methods:
                build_config(base, {**point, LENGTH_PATH: finalists.epochs})
        except ConfigError as error:
            raise ConfigError(f"search.finalists.epochs: {error}") from error
