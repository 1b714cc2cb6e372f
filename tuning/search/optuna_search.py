"""Optuna proposes, ASHA prunes: this module passes on what the libraries do not tell each other, and restores it after a kill."""

import functools
import time
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import optuna
from optuna.samplers import BaseSampler
from optuna.trial import TrialState, create_trial
from ray.tune.search import Searcher

from tuning.launch import EventLog, LaunchHistory, TrialHistory, replay_events
from tuning.launch.enqueued import EnqueuedPoints
from tuning.launch.events import FinishAsked, Proposed, Rejected, Transferred
from tuning.launch.finish import FinishRequest
from tuning.outcome import Outcome, outcome_of
from tuning.search.budget import Budget, budget_of
from tuning.search.drawing import draw
from tuning.search.finalists import FinalistRun, runs_to_propose
from tuning.search.optuna_space import to_optuna
from tuning.search.optuna_states import STATES
from tuning.search.samplers import build_sampler
from tuning.search.terminators import StudyTerminator, build_terminator
from tuning.search.transfer import Advisor
from tuning.study import Study
from tuning.study.distributions import Distribution
from tuning.study.finalists import searched_part
from tuning.study.nested_keys import Point
from tuning.trial.limits import Limits, is_beyond

CHECKPOINTS_TO_TRY = 2


class StudySearch(Searcher):
    """A Tune searcher that asks Optuna, tells pruned from finished trials, keeps budgets, and can be rebuilt from a history.

    Ray's own searcher reports a pruned trial to Optuna as COMPLETE, with its low-fidelity value, never reports the result on which
    it was stopped, and repeats or loses trials when a killed sweep is restored. Here the study is filled with the ended trials of
    the launch's history, in the order of their numbers; unfinished ones continue before anything new. A Tune config is
    ``{number, point, restore, finalist_of}``. Optuna has its own trial numbers, since it is also told of points beyond the study's
    limits, which are never run.

    Optuna learns nothing from finalists: it is told that they failed. They are proposed only when no trial of the search is
    running, so that the choice of finalists does not depend on who came first.
    """

    def __init__(
        self,
        *,
        epochs: int,
        budget: Budget,
        history: LaunchHistory,
        journal: EventLog,
        start: Sequence[dict[str, Any]],
        domains: Mapping[str, Distribution],
        metric: str,
        sampler: BaseSampler,
        study_name: str,
        finalists: Callable[[LaunchHistory], Sequence[FinalistRun]] | None = None,
        terminator: StudyTerminator | None = None,
        limits: Limits | None = None,
        enqueued: EnqueuedPoints | None = None,
        advisor: Advisor | None = None,
        finish: FinishRequest | None = None,
    ) -> None:
        super().__init__(metric=metric, mode="max")
        self.study = optuna.create_study(
            sampler=sampler, pruner=optuna.pruners.NopPruner(), study_name=study_name, direction="maximize"
        )
        self._trials: dict[str, optuna.Trial] = {}
        self._numbers: dict[str, int] = {}
        self._next_number = len(history.trials)
        self._ended: set[str] = set()
        self._domains = domains
        self._space = to_optuna(domains)
        self._journal = journal
        self._epochs = epochs
        self._budget = budget
        self._finish, self._is_finished, self._study_trials = finish, False, budget.num_trials
        self._terminator = terminator
        self._limits = limits
        self._advisor = advisor
        self._enqueued, self._num_enqueued = enqueued, history.num_enqueued
        self._start = deque(start[sum(trial.enqueued is None for trial in history.searched.values()) :])
        self._last_epoch: dict[str, int] = {}
        self._finalists_of = finalists
        self._finalists: list[FinalistRun] | None = None
        self._is_finalist: set[str] = set()
        self.has_ended = False
        """Whether it proposes only finalists from now on."""
        self._unfinished = deque(trial for _, trial in sorted(history.trials.items()) if not trial.is_over)
        for _, trial in sorted(history.trials.items()):
            if trial.is_over:
                self._add(trial)
        for rejected in history.rejected:
            self._add_rejected(rejected)

    def suggest(self, trial_id: str) -> dict[str, Any] | str | None:
        if self._unfinished:
            return self._go_on(trial_id, self._unfinished.popleft())
        self._look_for_finish()
        if self._budget.is_spent or self._is_terminated():
            self.has_ended = True
            return self._suggest_finalist(trial_id)
        self._budget.num_proposed += 1
        trial, enqueued = self._draw_within_limits()
        self._trials[trial_id] = trial
        return self._propose(trial_id, dict(trial.params), enqueued=enqueued)

    @property
    def finalists_left(self) -> int | None:
        """Finalists' runs that are not proposed yet; None while the finalists are not known."""
        return 0 if self._finalists_of is None else None if self._finalists is None else len(self._finalists)

    @property
    def ended_early(self) -> str:
        """Why the search ended before its budgets were used up; empty if they are used up."""
        if self._is_finished:
            return "it was asked to finish"
        if self._budget.num_proposed >= self._budget.num_trials:
            return ""
        if self._budget.has_stalled:
            return f"the last {self._budget.trials_since_gain} trials were no better than the best before them"
        return "Optuna's terminator sees nothing left to gain" if self._is_terminated() else ""

    def _look_for_finish(self) -> None:
        """If a user has asked to finish, treat the budget as used up."""
        if self._finish is not None and self._finish.is_made:
            self._journal.append(FinishAsked(time=time.time(), num_trials=self._study_trials))
            self._finish.take()
            self._is_finished = True
            self._budget.num_trials = self._budget.num_proposed

    def _is_terminated(self) -> bool:
        return self._terminator is not None and self._terminator.ends(self.study)

    def _draw_within_limits(self) -> tuple[optuna.Trial, int | None]:
        """Optuna's trial for the next point within the limits, and its index if it is an enqueued point."""
        while True:
            point, enqueued = self._next_listed()
            trial = self._ask(point)
            excess = self._limits.excess(trial.params) if self._limits else {}
            if not is_beyond(excess):
                return trial, enqueued
            self._reject(trial, excess, enqueued)

    def _next_listed(self) -> tuple[Point | None, int | None]:
        """The next point that precedes Optuna's own: added by users, from the study's first points, or from the advisor."""
        if self._enqueued is not None and (added := self._enqueued.after(self._num_enqueued)):
            place, point = added[0]
            self._num_enqueued = place + 1
            return point, place
        if self._start:
            return self._start.popleft(), None
        return (self._advisor.point(self.study, self._next_number) if self._advisor else None), None

    def _ask(self, point: Point | None) -> optuna.Trial:
        """Optuna's trial for `point`, or for a point that it draws."""
        if point is not None:
            self.study.enqueue_trial(dict(point))
        trial = self.study.ask()
        draw(trial, self._domains, self._space)
        return trial

    def _reject(self, trial: optuna.Trial, excess: Mapping[str, float], enqueued: int | None) -> None:
        """Tell Optuna by how much a point exceeds the limits; the point is never run."""
        for name, share in excess.items():
            trial.set_constraint(name, share)
        self.study.tell(trial, state=TrialState.PRUNED)
        self._journal.append(Rejected(time=time.time(), point=dict(trial.params), excess=excess, enqueued=enqueued))

    def _go_on(self, trial_id: str, past: TrialHistory) -> dict[str, Any]:
        """Continue a trial of an earlier attempt."""
        self._numbers[trial_id], self._last_epoch[trial_id] = past.number, past.last_epoch
        if past.finalist_of is not None:
            self._is_finalist.add(trial_id)
        self._trials[trial_id] = self._taken_up(past)
        restore = to_restore(past)
        return {"number": past.number, "point": dict(past.point), "restore": restore, "finalist_of": past.finalist_of}

    def _taken_up(self, past: TrialHistory) -> optuna.Trial:
        """Optuna's trial for a trial of an earlier attempt, with its results so far."""
        if past.finalist_of is not None:
            return self._ask(searched_part(past.point))
        trial = self._ask(past.point)
        self._budget.num_proposed += 1
        for epoch, value in past.values.items():
            trial.report(value, epoch)
        return trial

    def _suggest_finalist(self, trial_id: str) -> dict[str, Any] | str | None:
        """The next run of a finalist; None while the search has not ended, `Searcher.FINISHED` if there are no more."""
        if self._finalists_of is None:
            return str(Searcher.FINISHED)
        if self._finalists is None:
            if self._trials.keys() - self._ended:
                return None
            self._finalists = list(self._finalists_of(replay_events(self._journal.events(), metric=self.metric)))
        if not self._finalists:
            return str(Searcher.FINISHED)
        run = self._finalists.pop(0)
        self._is_finalist.add(trial_id)
        self._trials[trial_id] = self._ask(searched_part(run.point))
        return self._propose(trial_id, run.point, finalist_of=run.of)

    def _propose(
        self, trial_id: str, point: dict[str, Any], *, finalist_of: int | None = None, enqueued: int | None = None
    ) -> dict[str, Any]:
        number = self._numbers[trial_id] = self._numbered(point, finalist_of=finalist_of, enqueued=enqueued)
        return {"number": number, "point": point, "restore": [], "finalist_of": finalist_of}

    def _numbered(self, point: dict[str, Any], *, finalist_of: int | None = None, enqueued: int | None = None) -> int:
        """The number of a new trial at `point`, which is recorded in the journal."""
        number = self._next_number
        self._next_number += 1
        # Trials may start in another order, but the history must have all of them in the order of their numbers.
        self._journal.append(Proposed(time=time.time(), number=number, point=point, finalist_of=finalist_of, enqueued=enqueued))
        return number

    def on_trial_result(self, trial_id: str, result: dict[str, Any]) -> None:
        self._report(trial_id, result)

    def on_trial_complete(self, trial_id: str, result: dict[str, Any] | None = None, error: bool = False) -> None:
        if trial_id in self._ended:
            return
        self._ended.add(trial_id)
        if trial_id not in self._is_finalist:
            self._budget.ended.add(self._numbers[trial_id])
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
            self._budget.take_result(self._numbers[trial_id], result[self.metric])
            self._trials[trial_id].report(result[self.metric], epoch)

    def _add(self, past: TrialHistory) -> None:
        """Add an ended trial to the study."""
        is_finalist = past.finalist_of is not None
        point = searched_part(past.point) if is_finalist else dict(past.point)
        assert past.outcome is not None  # ended trials have one
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

    def _add_rejected(self, past: Rejected) -> None:
        """Add a point that an earlier attempt has rejected to the study."""
        distributions = {path: self._space[path] for path in past.point}
        trial = create_trial(state=TrialState.PRUNED, params=dict(past.point), distributions=distributions)
        for name, share in past.excess.items():
            trial.set_constraint(name, share)
        self.study.add_trial(trial)


def to_restore(past: TrialHistory) -> list[str]:
    """The checkpoints to try to continue a trial from, the newest first."""
    return past.checkpoints[-CHECKPOINTS_TO_TRY:][::-1]


def has_work(study: Study, history: LaunchHistory) -> bool:
    """Whether there is an unfinished trial, the budget allows another, or a finalist must still run."""
    unfinished = any(not trial.is_over for trial in history.trials.values())
    admits = not budget_of(study, history).is_used_up_by(len(history.searched))
    return unfinished or admits or bool(runs_to_propose(study, history))


def build_search(
    study: Study,
    history: LaunchHistory,
    journal: EventLog,
    first: Sequence[dict[str, Any]],
    limits: Limits | None = None,
    enqueued: EnqueuedPoints | None = None,
    finish: FinishRequest | None = None,
    *,
    kind: Callable[..., StudySearch] = StudySearch,
) -> StudySearch:
    """The seeded searcher of `study`, restored from `history`; it begins with `first` and writes its proposals to `journal`.

    It proposes no point beyond `limits`, proposes points that are `enqueued` during the run before all others, and none once
    `finish` is requested. `kind`: the class or function that creates the searcher.
    """
    search = study.search
    has_drawn = history.trials or history.rejected
    seed = search.seed + (history.num_attempts if has_drawn else 0)  # an attempt must not draw the same points as the previous one
    return kind(
        epochs=study.config.epochs,
        budget=budget_of(study, history),
        history=history,
        journal=journal,
        start=first,
        domains=study.space,
        metric=study.metric,
        sampler=build_sampler(study, seed, num_first=len(first)),
        study_name=study.name,
        finalists=functools.partial(runs_to_propose, study) if search.finalists else None,
        terminator=build_terminator(search.stop, seed=seed),
        limits=limits,
        enqueued=enqueued,
        advisor=_advisor(study, history.transferred, seed),
        finish=finish,
    )


def _advisor(study: Study, told: Transferred | None, seed: int) -> Advisor | None:
    if told is None:
        return None
    return Advisor(told, study.space, to_optuna(study.space), study.search.startup_trials, seed)
