"""A launch as an in-memory Optuna study for `optuna.visualization` and `optuna.importance`, made from the store alone."""

import logging
from collections.abc import Mapping

import optuna
from optuna.distributions import BaseDistribution
from optuna.trial import FrozenTrial, TrialState, create_trial

from tuning.outcome import Outcome
from tuning.process_settings import log_levels
from tuning.results import Launch, TrialRecord
from tuning.search.optuna_states import STATES


@log_levels({"optuna": logging.WARNING})  # it logs that a study is created
def as_study(launch: Launch, space: Mapping[str, BaseDistribution]) -> optuna.Study:
    """The trials of the launch's search in the order of their numbers.

    A pruned or unfinished trial is PRUNED; its value is the best that it reached.
    """
    study = optuna.create_study(direction="maximize", study_name=launch.name)
    for trial in sorted(launch.searched, key=lambda trial: trial.number):
        known = {path: value for path, value in trial.point.items() if path in space}
        study.add_trial(_frozen(trial, known, {path: space[path] for path in known}, launch.objective))
    return study


def _frozen(trial: TrialRecord, point: Mapping[str, object], space: Mapping[str, BaseDistribution], objective: str) -> FrozenTrial:
    curve = trial.curves.get(objective, {})
    state = STATES[trial.outcome] if trial.outcome else TrialState.RUNNING
    if state is TrialState.RUNNING:
        state = TrialState.PRUNED  # figures would ignore the value so far of a running trial
    if state is TrialState.PRUNED and not curve:
        state = TrialState.FAIL
    value = None if state is TrialState.FAIL else 0.0 if trial.outcome is Outcome.DIVERGED else max(curve.values(), default=0.0)
    return create_trial(
        state=state,
        value=value,
        params=dict(point),
        distributions=dict(space),
        intermediate_values=dict(curve),
    )
