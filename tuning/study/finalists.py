"""Finalists: the search's best few points, each run once more under seeds of its own, so that luck does not choose the student."""

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
    """How many points are finalists, under how many seeds each, and for how long. Of the student, the mean decides."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False, strict=True)

    top: int = Field(default=3, ge=1)
    seeds: int = Field(default=3, ge=1)
    epochs: int | None = Field(default=None, ge=1)
    """Default: as many as the search's trials have."""
    cpus: int | None = Field(default=None, ge=1)
    """CPU cores, and threads, of one run; default: a trial's of the search. Many trials fill a machine, one run may not."""

    @property
    def num_runs(self) -> int:
        return self.top * self.seeds

    def length(self, epochs: int) -> int:
        """Epochs of a run, in a study whose trials have `epochs`."""
        return self.epochs or epochs


def finalist_points(point: Point, finalists: FinalistConfig, seed: int) -> list[dict[str, Any]]:
    """The points of a finalist's runs: `point`, as searched trials have it, under the seeds that follow upon `seed`, theirs."""
    length = {} if finalists.epochs is None else {LENGTH_PATH: finalists.epochs}
    return [{**point, REPEATED_PATH: seed + place, **length} for place in range(1, finalists.seeds + 1)]


def searched_part(point: Point) -> dict[str, Any]:
    """What the search has chosen of a finalist's `point`."""
    return {path: value for path, value in point.items() if path not in (REPEATED_PATH, LENGTH_PATH)}


def check_finalists(finalists: FinalistConfig | None, space: Mapping[str, Distribution], base: BaseConfig) -> None:
    """Raise ConfigError where they cannot be run."""
    if finalists is None:
        return
    if REPEATED_PATH in space:
        raise ConfigError(
            f"search.finalists: have seeds of their own, but the grid repeats its points by space.{REPEATED_PATH}; leave out one"
        )
    if finalists.epochs is not None:
        methods = [{"method": method} for method in space["method"].arguments] if "method" in space else [{}]
        try:
            for point in methods:
                build_config(base, {**point, LENGTH_PATH: finalists.epochs})
        except ConfigError as error:
            raise ConfigError(f"search.finalists.epochs: {error}") from error
