"""Optuna proposes, ASHA prunes: what the libraries do not tell each other, and forget when killed, is told here."""

import functools
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import optuna
from optuna.distributions import BaseDistribution, CategoricalDistribution, FloatDistribution, IntDistribution
from optuna.samplers import BaseSampler
from optuna.trial import TrialState, create_trial
from ray.tune.search import Searcher

from tuning.launch import Journal, LaunchHistory, TrialHistory, replay_events
from tuning.launch.events import Proposed
from tuning.outcome import Outcome, outcome_of
from tuning.search.finalists import FinalistRun, runs_to_propose
from tuning.search.optuna_space import to_optuna
from tuning.search.optuna_states import STATES
from tuning.study import Study
from tuning.study.distributions import Distribution
from tuning.study.finalists import searched_part

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
    of their numbers, so that Optuna's numbers are ours. A Tune config is ``{number, point, restore, finalist_of}``.

    Finalists have Optuna's next numbers, but teach it nothing: what it hears of them is that they failed. They are proposed
    once nothing of the search runs any more, so that who is one does not depend on who came first.
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
        finalists: Callable[[LaunchHistory], Sequence[FinalistRun]] | None = None,
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
        self._finalists_of = finalists
        self._finalists: list[FinalistRun] | None = None
        self._is_finalist: set[str] = set()
        self._unfinished = {number: trial for number, trial in history.trials.items() if not trial.is_over}
        for number in sorted(history.trials):
            self._add(history.trials[number])
        for point in start[len(history.searched) :]:
            self.study.enqueue_trial(point)
        self._num_proposed = sum(trial.is_over for trial in history.searched.values())

    def suggest(self, trial_id: str) -> dict[str, Any] | str | None:
        if self._unfinished:
            return self._go_on(trial_id)
        if self._budget.is_spent(self._num_proposed):
            return self._suggest_finalist(trial_id)
        trial = self._ask(trial_id)
        self._num_proposed += 1
        return self._propose(trial.number, dict(trial.params))

    def _ask(self, trial_id: str) -> optuna.Trial:
        """Optuna's next trial, which has the next number: one that waits, or a new one."""
        trial = self._trials[trial_id] = self.study.ask()
        draw(trial, self._domains, self._space)
        return trial

    def _go_on(self, trial_id: str) -> dict[str, Any]:
        """With a trial of an earlier attempt."""
        trial = self._ask(trial_id)
        past = self._unfinished.pop(trial.number)
        self._last_epoch[trial_id] = past.last_epoch
        if past.finalist_of is None:
            self._num_proposed += 1
            for epoch, value in past.values.items():
                trial.report(value, epoch)
        else:
            self._is_finalist.add(trial_id)
        restore = past.checkpoints[-CHECKPOINTS_TO_TRY:][::-1]
        return {"number": past.number, "point": dict(past.point), "restore": restore, "finalist_of": past.finalist_of}

    def _suggest_finalist(self, trial_id: str) -> dict[str, Any] | str | None:
        """The next run of a finalist; None while the search has not ended, `Searcher.FINISHED` where there is no more."""
        if self._finalists_of is None:
            return str(Searcher.FINISHED)
        if self._finalists is None:
            if self._trials.keys() - self._ended:
                return None
            self._finalists = list(self._finalists_of(replay_events(self._journal.events(), metric=self.metric)))
        if not self._finalists:
            return str(Searcher.FINISHED)
        run = self._finalists.pop(0)
        self.study.enqueue_trial(searched_part(run.point))
        self._is_finalist.add(trial_id)
        return self._propose(self._ask(trial_id).number, run.point, finalist_of=run.of)

    def _propose(self, number: int, point: dict[str, Any], finalist_of: int | None = None) -> dict[str, Any]:
        # Trials may start in another order; what is rebuilt must know of each, in the order of their numbers.
        self._journal.append(Proposed(time=time.time(), number=number, point=point, finalist_of=finalist_of))
        return {"number": number, "point": point, "restore": [], "finalist_of": finalist_of}

    def on_trial_result(self, trial_id: str, result: dict[str, Any]) -> None:
        self._report(trial_id, result)

    def on_trial_complete(self, trial_id: str, result: dict[str, Any] | None = None, error: bool = False) -> None:
        if trial_id in self._ended:
            return
        self._ended.add(trial_id)
        trial = self._trials[trial_id]
        if error or not result or trial_id in self._is_finalist:
            self.study.tell(trial, state=TrialState.FAIL)
            return
        self._report(trial_id, result)
        if outcome_of(result, epochs=self._epochs) is Outcome.PRUNED:
            self.study.tell(trial, state=TrialState.PRUNED)
        else:
            self.study.tell(trial, result[self.metric])

    def _report(self, trial_id: str, result: dict[str, Any]) -> None:
        epoch = result["epoch"]
        if trial_id in self._is_finalist:
            return
        if epoch > self._last_epoch.get(trial_id, 0):  # a retried trial repeats the epochs since its checkpoint
            self._last_epoch[trial_id] = epoch
            self._budget.spent_epochs += 1
            self._trials[trial_id].report(result[self.metric], epoch)

    def _add(self, past: TrialHistory) -> None:
        is_finalist = past.finalist_of is not None
        point = searched_part(past.point) if is_finalist else dict(past.point)
        if not past.is_over:
            self.study.enqueue_trial(point)
            return
        assert past.outcome is not None  # or it would not be over
        state = TrialState.FAIL if is_finalist else STATES[past.outcome]
        self.study.add_trial(
            create_trial(
                state=state,
                value=past.values[past.last_epoch] if state is TrialState.COMPLETE else None,
                params=point,
                distributions={path: self._space[path] for path in point},
                intermediate_values={} if is_finalist else past.values,
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
    """Whether a trial waits to be finished, the budget admits another, or a finalist is to be run."""
    unfinished = any(not trial.is_over for trial in history.trials.values())
    admits = not _budget(study, history).is_spent(len(history.searched))
    return unfinished or admits or bool(runs_to_propose(study, history))


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
        finalists=functools.partial(runs_to_propose, study) if search.finalists else None,
    )
