"""Optuna's terminators, which model the finished trials and decide whether a gain is still possible."""

import warnings

import optuna
from optuna.exceptions import ExperimentalWarning
from optuna.terminator import (
    BaseErrorEvaluator,
    BaseImprovementEvaluator,
    EMMREvaluator,
    MedianErrorEvaluator,
    RegretBoundEvaluator,
    StaticErrorEvaluator,
    Terminator,
)
from optuna.trial import TrialState

from tuning.study.config import StopConfig


class StudyTerminator:
    """Asks Optuna's terminator once after each completed trial; a decision to stop is final."""

    def __init__(self, stop: StopConfig, *, seed: int) -> None:
        self._num_seen = 0
        self._has_ended = False
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", ExperimentalWarning)
            improvement, error = _evaluators(stop, seed)
            self._terminator = Terminator(improvement, error, min_n_trials=stop.min_trials)

    def ends(self, study: optuna.Study) -> bool:
        """Whether `study` should end. Pruned trials are ignored, since they tell nothing about final values."""
        num_completed = sum(trial.state is TrialState.COMPLETE for trial in study.get_trials(deepcopy=False))
        if num_completed > self._num_seen and not self._has_ended:
            self._num_seen = num_completed
            self._has_ended = self._terminator.should_terminate(study)
        return self._has_ended


def _evaluators(stop: StopConfig, seed: int) -> tuple[BaseImprovementEvaluator, BaseErrorEvaluator]:
    """`regret_bound` compares the possible remaining gain with `min_gain`; `emmr` with a hundredth of the initial one."""
    if stop.terminator == "regret_bound":
        return RegretBoundEvaluator(min_n_trials=stop.min_trials, seed=seed), StaticErrorEvaluator(stop.min_gain)
    gap = EMMREvaluator(min_n_trials=2, seed=seed)
    return gap, MedianErrorEvaluator(gap)


def build_terminator(stop: StopConfig, *, seed: int) -> StudyTerminator | None:
    """The terminator in `stop`, or None."""
    return StudyTerminator(stop, seed=seed) if stop.terminator else None
