"""Optuna's trial states for our outcomes."""

from optuna.trial import TrialState

from tuning.outcome import Outcome

STATES = {
    Outcome.COMPLETED: TrialState.COMPLETE,
    Outcome.PRUNED: TrialState.PRUNED,
    Outcome.DIVERGED: TrialState.COMPLETE,  # with its last, very bad value, as the search reports it to its sampler
    Outcome.FAILED: TrialState.FAIL,
    Outcome.INTERRUPTED: TrialState.RUNNING,  # a pause
}
