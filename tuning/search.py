"""Optuna proposes, ASHA prunes; what the libraries do not tell each other is told here."""

from typing import Any

import optuna
from optuna.trial import TrialState
from ray.tune.schedulers import ASHAScheduler, FIFOScheduler, TrialScheduler
from ray.tune.search.optuna import OptunaSearch

from tuning.config import Study
from tuning.outcome import Outcome, outcome_of
from tuning.space import to_tune


class StudySearch(OptunaSearch):
    """OptunaSearch that knows a pruned trial from a finished one.

    Ray's own tells Optuna COMPLETE for both, with the low-fidelity value of the pruned one, and never reports
    the result on which the trial was stopped; TPE then takes an epoch-1 value for a final one.
    """

    def __init__(self, *, epochs: int, **options: Any) -> None:
        super().__init__(**options)
        self._epochs = epochs

    def on_trial_complete(self, trial_id: str, result: dict[str, Any] | None = None, error: bool = False) -> None:
        if result and not error and trial_id not in self._completed_trials:
            trial = self._ot_trials[trial_id]
            trial.report(result[self.metric], result["training_iteration"])
            if outcome_of(result, epochs=self._epochs) is Outcome.PRUNED:
                self._ot_study.tell(trial, state=TrialState.PRUNED)
                self._completed_trials.add(trial_id)
                return
        super().on_trial_complete(trial_id, result, error)


def build_search(study: Study) -> StudySearch:
    """The seeded searcher of `study`, with its starting points enqueued."""
    seed, startup = study.search.seed, study.search.startup_trials
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    sampler = (
        optuna.samplers.TPESampler(seed=seed, n_startup_trials=startup)
        if study.search.sampler == "tpe"
        else optuna.samplers.RandomSampler(seed=seed)
    )
    return StudySearch(
        epochs=study.config.epochs,
        space=StudySearch.convert_search_space(to_tune(study.space)),
        metric=study.metric,
        mode="max",
        sampler=sampler,
        study_name=study.name,
        points_to_evaluate=study.start,
    )


def build_scheduler(study: Study) -> TrialScheduler:
    """ASHA over epochs, or none."""
    if study.prune.scheduler == "none":
        return FIFOScheduler()
    return ASHAScheduler(
        time_attr="training_iteration",
        metric=study.metric,
        mode="max",
        max_t=study.config.epochs,
        grace_period=study.prune.grace_epochs,
        reduction_factor=study.prune.reduction_factor,
    )
