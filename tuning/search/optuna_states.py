"""Optuna's states of our outcomes."""

from optuna.trial import TrialState

from tuning.outcome import Outcome

STATES = {
    Outcome.COMPLETED: TrialState.COMPLETE,
    Outcome.PRUNED: TrialState.PRUNED,
    Outcome.DIVERGED: TrialState.COMPLETE,  # with its last value, the worst: as the search tells its sampler
    Outcome.FAILED: TrialState.FAIL,
    Outcome.INTERRUPTED: TrialState.RUNNING,  # a pause
}
