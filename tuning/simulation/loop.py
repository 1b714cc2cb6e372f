"""The event loop of a simulated sweep: trials end their epochs on a virtual clock, and the real search and scheduler react.

The order of their callbacks is that of Ray 2.60's TuneController (`_process_trial_result`, `stop_trial`), with one difference:
a checkpoint takes no time.
"""

import heapq
import itertools
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from typing import Any, TypeAlias

from ray.tune.schedulers import FIFOScheduler, TrialScheduler

from tuning.launch import EventLog
from tuning.launch.events import Epoch, Event, TrialEnd, TrialStart
from tuning.outcome import Outcome, outcome_of
from tuning.search.asha import ResumableAsha
from tuning.search.optuna_search import StudySearch
from tuning.simulation.best_after import BestAfter
from tuning.simulation.record import SECONDS, RecordedCurves
from tuning.study.nested_keys import Point

Answer = Callable[[Point], RecordedCurves]
"""What a trial at a point reports."""
Scheduler: TypeAlias = ResumableAsha | FIFOScheduler  # BestAfter is a FIFOScheduler


class VirtualClock:
    """Seconds since the sweep began."""

    def __init__(self) -> None:
        self.now = 0.0


class VirtualLog:
    """Appends events to `log` with the time of `clock`."""

    def __init__(self, log: EventLog, clock: VirtualClock) -> None:
        self._log = log
        self._clock = clock

    def append(self, event: Event) -> None:
        self._log.append(replace(event, time=self._clock.now))

    def events(self) -> Iterator[Event]:
        return self._log.events()


@dataclass(eq=False)
class SimulatedTrial:
    """A trial as searcher and scheduler see it: with Ray's ID, which changes with a restart, and a Tune config."""

    trial_id: str
    config: dict[str, Any]
    curves: RecordedCurves
    epoch: int = 0
    is_told: bool = False
    """Whether the search was told that the trial has ended; a pause counts as an end."""

    @property
    def number(self) -> int:
        return int(self.config["number"])


def reported(curves: RecordedCurves, epoch: int, objective: str) -> dict[str, Any]:
    """The result of `epoch` as `DistillTrainable.step` returns it: metrics, best objective so far, whether the trial is done."""
    last = epoch == curves.num_epochs
    if last and curves.diverged:
        return {objective: 0.0, f"best_{objective}": 0.0, "epoch": epoch, "diverged": True, "done": True}
    metrics = {name: values[epoch - 1] for name, values in curves.values.items() if values[epoch - 1] is not None}
    best = max(value for value in curves.values[objective][:epoch] if value is not None)
    return metrics | {f"best_{objective}": best, "epoch": epoch, "diverged": False, "done": last}


class SweepLoop:
    """Runs the trials that `search` proposes, `workers` at a time, as `scheduler` decides, and logs the events to `log`."""

    def __init__(
        self,
        search: StudySearch,
        scheduler: Scheduler,
        answer: Answer,
        *,
        objective: str,
        method: str,
        epochs: int,
        workers: int,
        clock: VirtualClock,
        log: EventLog,
    ) -> None:
        self._search = search
        self._scheduler = scheduler
        self._answer = answer
        self._objective = objective
        self._method = method
        self._epochs = epochs
        self._workers = workers
        self._clock = clock
        self._log = log
        self._ids = (f"simulated-{index}" for index in itertools.count())
        self._order = itertools.count()
        self._due: list[tuple[float, int, SimulatedTrial]] = []
        """End times of the running epochs; ties go to the one that began first."""
        self._paused: list[SimulatedTrial] = []
        self._going_on: list[SimulatedTrial] = []

    def run(self) -> None:
        """Run until no trial runs and none is proposed."""
        self._fill()
        while self._due:
            self._clock.now, _, trial = heapq.heappop(self._due)
            self._end_epoch(trial)
            self._fill()
            if not self._due and self._paused:
                self._choose_among_paused()
                self._fill()

    def _fill(self) -> None:
        """Give every free worker a trial."""
        while len(self._due) < self._workers and (trial := self._next_trial()):
            self._run_epoch(trial)

    def _next_trial(self) -> SimulatedTrial | None:
        if self._going_on:
            return self._going_on.pop(0)
        trial_id = next(self._ids)
        config = self._search.suggest(trial_id)
        if not isinstance(config, dict):
            return None
        trial = SimulatedTrial(trial_id, config, self._answer(config["point"]))
        self._scheduler.on_trial_add(None, trial)
        params = {"method": str(config["point"].get("method", self._method))}
        self._log.append(TrialStart(**_when(trial), point=config["point"], params=params, ray_trial_id=trial_id))
        return trial

    def _run_epoch(self, trial: SimulatedTrial) -> None:
        trial.epoch += 1
        seconds = trial.curves.values[SECONDS][trial.epoch - 1]
        assert seconds is not None  # a record without it is refused
        heapq.heappush(self._due, (self._clock.now + seconds, next(self._order), trial))

    def _end_epoch(self, trial: SimulatedTrial) -> None:
        result = reported(trial.curves, trial.epoch, self._objective)
        decision = self._decide(trial, result)
        self._log.append(Epoch(**_when(trial), epoch=trial.epoch, metrics=_numbers(result), note=""))
        if decision == TrialScheduler.CONTINUE:
            self._run_epoch(trial)
            return
        if decision == TrialScheduler.PAUSE:
            self._paused.append(trial)
        else:
            self._scheduler.on_trial_complete(None, trial, result)
        if not trial.is_told:
            self._search.on_trial_complete(trial.trial_id, result)
        trial.is_told = True
        if decision == TrialScheduler.STOP:
            self._end(trial, outcome_of(result, epochs=self._epochs))

    def _decide(self, trial: SimulatedTrial, result: dict[str, Any]) -> str:
        """Ask the scheduler, and report the result to the search unless it is the last, which is reported with the trial's end."""
        if result["done"]:
            return str(TrialScheduler.STOP)
        decision = str(self._scheduler.on_trial_result(None, trial, result))
        if decision == TrialScheduler.CONTINUE and not trial.is_told:
            self._search.on_trial_result(trial.trial_id, result)
        return decision

    def _choose_among_paused(self) -> None:
        assert isinstance(self._scheduler, BestAfter)  # no other scheduler pauses
        self._going_on = self._scheduler.best(self._paused)
        for trial in self._paused:
            if trial not in self._going_on:
                self._end(trial, Outcome.PRUNED)
        self._paused.clear()

    def _end(self, trial: SimulatedTrial, outcome: Outcome) -> None:
        self._log.append(TrialEnd(**_when(trial), outcome=outcome, reason="", epoch=trial.epoch, checkpoint=None))


def _when(trial: SimulatedTrial) -> dict[str, Any]:
    """Fields of every event of `trial`; the log sets the time."""
    return {"time": 0.0, "number": trial.number}


def _numbers(result: dict[str, Any]) -> dict[str, float]:
    return {name: float(value) for name, value in result.items() if not isinstance(value, bool)}
