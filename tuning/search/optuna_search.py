"""Optuna proposes, ASHA prunes: what the libraries do not tell each other, and forget when killed, is told here."""

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import optuna
from optuna.distributions import BaseDistribution, CategoricalDistribution, FloatDistribution, IntDistribution
from optuna.samplers import BaseSampler
from optuna.trial import TrialState, create_trial
from ray.tune.search import Searcher

from tuning.launch import Journal, LaunchHistory, TrialHistory
from tuning.launch.events import Proposed
from tuning.outcome import Outcome, outcome_of
from tuning.search.optuna_space import to_optuna
from tuning.search.optuna_states import STATES
from tuning.study import Study
from tuning.study.distributions import Distribution

CHECKPOINTS_TO_TRY = 2


@dataclass
class Budget:
    """When to stop proposing trials; those that run go on to their end. None: no limit."""

    num_trials: int
    epochs: int | None
    time_s: float | None
    spent_epochs: int = 0
    started: float = 0.0

    def is_spent(self, num_proposed: int) -> bool:
        """Whether `num_proposed` trials, the epochs run so far or the time since `started` use it up."""
        return (
            num_proposed >= self.num_trials
            or (self.epochs is not None and self.spent_epochs >= self.epochs)
            or (self.time_s is not None and time.monotonic() - self.started >= self.time_s)
        )


class StudySearch(Searcher):
    """Tune's searcher that asks Optuna, knows a pruned trial from a finished one, keeps budgets, and is rebuilt from a history.

    Ray's own tells Optuna COMPLETE for a pruned trial, with its low-fidelity value, never reports the result on
    which it was stopped, and repeats or loses trials when a killed sweep is restored. Here the study is filled from
    the launch's history: finished trials as they ended, unfinished ones waiting to be asked for again, in the order
    of their numbers, so that Optuna's numbers are ours. A Tune config is ``{number, point, restore}``.
    """

    def __init__(
        self,
        *,
        epochs: int,
        budget: Budget,
        history: LaunchHistory,
        journal: Journal,
        start: Sequence[dict[str, Any]],
        domains: Mapping[str, Distribution],
        metric: str,
        sampler: BaseSampler,
        study_name: str,
    ) -> None:
        super().__init__(metric=metric, mode="max")
        self.study = optuna.create_study(
            sampler=sampler, pruner=optuna.pruners.NopPruner(), study_name=study_name, direction="maximize"
        )
        self._trials: dict[str, optuna.Trial] = {}
        self._ended: set[str] = set()
        self._domains = domains
        self._space = to_optuna(domains)
        self._journal = journal
        self._epochs = epochs
        self._budget = budget
        self._last_epoch: dict[str, int] = {}
        self._unfinished = {number: trial for number, trial in history.trials.items() if not trial.is_over}
        for number in sorted(history.trials):
            self._add(history.trials[number])
        for point in start[len(history.trials) :]:
            self.study.enqueue_trial(point)
        self._num_proposed = len(history.trials) - len(self._unfinished)

    def suggest(self, trial_id: str) -> dict[str, Any] | str | None:
        is_new = not self._unfinished
        if is_new and self._budget.is_spent(self._num_proposed):
            return str(Searcher.FINISHED)
        trial = self.study.ask()
        draw(trial, self._domains, self._space)
        self._trials[trial_id] = trial
        self._num_proposed += 1
        past = self._unfinished.pop(trial.number, None)
        restore: list[str] = []
        if past is None:
            # Trials may start in another order; what is rebuilt must know of each, in the order of their numbers.
            self._journal.append(Proposed(time=time.time(), number=trial.number, point=dict(trial.params)))
        else:
            for epoch, value in past.values.items():
                trial.report(value, epoch)
            self._last_epoch[trial_id] = past.last_epoch
            restore = past.checkpoints[-CHECKPOINTS_TO_TRY:][::-1]
        return {"number": trial.number, "point": dict(trial.params), "restore": restore}

    def on_trial_result(self, trial_id: str, result: dict[str, Any]) -> None:
        self._report(trial_id, result)

    def on_trial_complete(self, trial_id: str, result: dict[str, Any] | None = None, error: bool = False) -> None:
        if trial_id in self._ended:
            return
        self._ended.add(trial_id)
        trial = self._trials[trial_id]
        if error or not result:
            self.study.tell(trial, state=TrialState.FAIL)
            return
        self._report(trial_id, result)
        if outcome_of(result, epochs=self._epochs) is Outcome.PRUNED:
            self.study.tell(trial, state=TrialState.PRUNED)
        else:
            self.study.tell(trial, result[self.metric])

    def _report(self, trial_id: str, result: dict[str, Any]) -> None:
        epoch = result["epoch"]
        if epoch > self._last_epoch.get(trial_id, 0):  # a retried trial repeats the epochs since its checkpoint
            self._last_epoch[trial_id] = epoch
            self._budget.spent_epochs += 1
            self._trials[trial_id].report(result[self.metric], epoch)

    def _add(self, past: TrialHistory) -> None:
        if not past.is_over:
            self.study.enqueue_trial(dict(past.point))
            return
        assert past.outcome is not None  # or it would not be over
        state = STATES[past.outcome]
        self.study.add_trial(
            create_trial(
                state=state,
                value=past.values[past.last_epoch] if state is TrialState.COMPLETE else None,
                params=dict(past.point),
                distributions={path: self._space[path] for path in past.point},
                intermediate_values=past.values,
            )
        )


def draw(trial: optuna.Trial, domains: Mapping[str, Distribution], distributions: Mapping[str, BaseDistribution]) -> None:
    """Let `trial` draw each parameter that exists beside those drawn before it."""
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


def has_work(study: Study, history: LaunchHistory) -> bool:
    """Whether a trial waits to be finished or the budget admits another."""
    unfinished = any(not trial.is_over for trial in history.trials.values())
    return unfinished or not _budget(study, history).is_spent(len(history.trials))


def _budget(study: Study, history: LaunchHistory) -> Budget:
    return Budget(
        num_trials=study.search.num_trials,
        epochs=study.search.epoch_budget,
        time_s=study.search.time_budget_s,
        spent_epochs=history.num_epochs,
        started=time.monotonic() - history.elapsed_s,
    )


def build_search(study: Study, history: LaunchHistory, journal: Journal, first: Sequence[dict[str, Any]]) -> StudySearch:
    """The seeded searcher of `study`, as `history` has left it; it begins with `first`, and writes its proposals into `journal`."""
    search = study.search
    seed = search.seed + history.num_attempts  # an attempt must not draw the points of the one before again
    sampler = (
        optuna.samplers.TPESampler(seed=seed, n_startup_trials=search.startup_trials)
        if search.sampler == "tpe"
        else optuna.samplers.RandomSampler(seed=seed)
    )
    return StudySearch(
        epochs=study.config.epochs,
        budget=_budget(study, history),
        history=history,
        journal=journal,
        start=first,
        domains=study.space,
        metric=study.metric,
        sampler=sampler,
        study_name=study.name,
    )
