"""Drawing a point from an Optuna trial: each parameter that exists, given those drawn before it."""

from collections.abc import Mapping

import optuna
from optuna.distributions import BaseDistribution, CategoricalDistribution, FloatDistribution, IntDistribution

from tuning.study.distributions import Distribution


def draw(trial: optuna.Trial, domains: Mapping[str, Distribution], distributions: Mapping[str, BaseDistribution]) -> None:
    """Let `trial` draw each parameter that exists, given those drawn before it."""
    for path, domain in domains.items():
        if not domain.is_active(trial.params):
            continue
        match distributions[path]:
            case FloatDistribution() as real:
                trial.suggest_float(path, real.low, real.high, step=real.step, log=real.log)
            case IntDistribution() as whole:
                trial.suggest_int(path, whole.low, whole.high, step=whole.step, log=whole.log)
            case CategoricalDistribution() as options:
                trial.suggest_categorical(path, options.choices)
