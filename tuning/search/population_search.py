"""The search of a population: its trials wait for each other at comparisons, and continue with what they have taken over."""

import functools
import time
from collections import deque
from collections.abc import Callable, Iterable
from typing import Any

import optuna
from ray.tune.search import Searcher

from cpsc.errors import ConfigError
from tuning.launch import LaunchHistory, TrialHistory, replay_events
from tuning.launch.events import Compared, Exploited
from tuning.outcome import WAITS
from tuning.search.optuna_search import StudySearch, to_restore
from tuning.search.population import PopulationRules, due_exploits, ranking
from tuning.study import Study
from tuning.study.population import POPULATION


class PopulationSearch(StudySearch):
    """Proposes a whole population, then each trial's epochs up to the next comparison, each time as a new Tune trial.

    Ray's own population based training supports no searcher, keeps its decisions in memory, and pauses trials, which a restored
    sweep continues before it asks the scheduler. Here trials end at a comparison and continue from the journal, like those of a
    killed sweep; all decisions are made from the journal alone. A Tune config is that of a `StudySearch` plus ``schedule``, the
    values along the trial's lineage, and ``until``, the epoch at which it waits or ends.
    """

    def __init__(self, *, rules: PopulationRules, history: LaunchHistory, **named: Any) -> None:
        super().__init__(history=history, **named)
        self._rules = rules
        self._members: dict[int, optuna.Trial] = {}
        self._ready: deque[TrialHistory] = deque()
        self._waiting: set[int] = set()
        self._running: set[int] = set()
        self._is_begun = False

    def suggest(self, trial_id: str) -> dict[str, Any] | str | None:
        if not self._is_begun:
            self._begin()
        if not self._ready and not self._running and self._waiting:
            self._compare()
        if self._ready:
            return self._run(trial_id, self._ready.popleft())
        return None if self._running else str(Searcher.FINISHED)

    def on_trial_complete(self, trial_id: str, result: dict[str, Any] | None = None, error: bool = False) -> None:
        number = self._numbers[trial_id]
        self._running.discard(number)
        if error or not result or not result.get(WAITS):
            super().on_trial_complete(trial_id, result, error)
        elif trial_id not in self._ended:
            self._ended.add(trial_id)
            self._report(trial_id, result)
            self._waiting.add(number)

    def _begin(self) -> None:
        """Complete the population, and a comparison that a killed driver has left unfinished."""
        self._is_begun = True
        for past in self._unfinished:
            self._members[past.number] = self._taken_up(past)
        self._unfinished.clear()
        while not self._budget.is_spent:
            self._budget.num_proposed += 1
            trial, enqueued = self._draw_within_limits()
            self._members[self._numbered(dict(trial.params), enqueued=enqueued)] = trial
        self._go_on_after(self._history(), self._members)

    def _compare(self) -> None:
        """Compare the waiting trials at the lowest epoch: a resume may have changed where trials wait."""
        history = self._history()
        epoch = min(history.trials[number].last_epoch for number in self._waiting)
        members = [trial for number in self._waiting if (trial := history.trials[number]).last_epoch == epoch]
        scores = {trial.number: trial.scores[epoch] for trial in members}
        self._journal.append(Compared(time=time.time(), epoch=epoch, ranking=ranking(scores)))
        self._waiting -= scores.keys()
        self._go_on_after(self._history(), scores)

    def _go_on_after(self, history: LaunchHistory, numbers: Iterable[int]) -> None:
        """Let the trials `numbers` continue or wait, once all exploits of the last comparison are in the journal."""
        for number, exploit in due_exploits(history, self._rules).items():
            self._journal.append(Exploited(time=time.time(), number=number, **exploit._asdict()))
        history = self._history()
        for number in sorted(numbers):
            trial = history.trials[number]
            if self._rules.waits(trial, history):
                self._waiting.add(number)
            else:
                self._ready.append(trial)

    def _run(self, trial_id: str, past: TrialHistory) -> dict[str, Any]:
        number = self._numbers[trial_id] = past.number
        self._trials[trial_id], self._last_epoch[trial_id] = self._members[number], past.last_epoch
        self._running.add(number)
        return {
            "number": number,
            "point": dict(past.point),
            "restore": to_restore(past),
            "finalist_of": None,
            "schedule": [[segment.after, dict(segment.point)] for segment in past.schedule],
            "until": self._rules.next_stop(past.last_epoch),
        }

    def _history(self) -> LaunchHistory:
        return replay_events(self._journal.events(), metric=self.metric)


def search_kind(study: Study) -> Callable[..., StudySearch]:
    """The class or function that creates the searcher for `study`, see `build_search`."""
    rules = PopulationRules.of(study)
    return StudySearch if rules is None else functools.partial(PopulationSearch, rules=rules)


def check_population_goes_on(study: Study, history: LaunchHistory) -> None:
    """Raise ConfigError if `study` turns a launch into a population or the reverse, or changes a population's size."""
    if not history.trials:
        return
    was_one = history.scheduler == POPULATION
    if was_one != (study.prune.scheduler == POPULATION):
        raise ConfigError(f"prune.scheduler: the launch has begun with {history.scheduler or 'another'}; keep it as it was")
    if was_one and history.compared is not None and study.search.num_trials != len(history.trials):
        raise ConfigError(
            f"search.num_trials: the population of {len(history.trials)} has been compared and must keep its size, "
            f"got {study.search.num_trials}"
        )
