"""Samplers by their names in a study file."""

from optuna.samplers import BaseSampler, GPSampler, RandomSampler, TPESampler

from tuning.search.asha import rungs_of
from tuning.search.prior_sampler import PriorSampler
from tuning.study import Study
from tuning.study.config import SearchConfig
from tuning.study.published_point import published_by_method


def build_sampler(study: Study, seed: int, *, num_first: int) -> BaseSampler:
    """The sampler of `study`. The search begins with `num_first` given points; for a grid, these are all its points."""
    startup_trials = study.search.startup_trials
    match study.search.sampler:
        case "tpe":
            return TPESampler(seed=seed, n_startup_trials=startup_trials)
        case "gp":  # it draws conditional parameters at random, and would warn about each one in every trial
            return GPSampler(seed=seed, n_startup_trials=startup_trials, warn_independent_sampling=False)
        case "prior":
            return _prior_sampler(study, seed, num_first)
        case "random" | "grid":
            return RandomSampler(seed=seed)


def learns_after(search: SearchConfig) -> int | None:
    """How many trials there are before the sampler learns from results; None: it never does."""
    return search.startup_trials if search.sampler in ("tpe", "gp", "prior") else None


def _prior_sampler(study: Study, seed: int, num_first: int) -> PriorSampler:
    epochs = study.config.epochs
    return PriorSampler(
        study.space,
        published_by_method(study.base, study.space),
        deviation=study.search.prior_deviation,
        levels=[*rungs_of(study.prune, epochs), epochs],
        num_first=num_first,
        tpe=TPESampler(seed=seed, n_startup_trials=study.search.startup_trials),
        seed=seed,
    )
