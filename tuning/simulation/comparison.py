"""Comparison of arms on a record, over seeds: when each first held a student as good as the target, and its final choice."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np

from tuning.launch.events import Epoch, Event, Proposed, Transferred
from tuning.results import launch_from_journal
from tuning.results.earlier import fitted, transferred
from tuning.simulation.arms import MISLED, Arm
from tuning.simulation.holding import Held, first_as_good, held_students
from tuning.simulation.loop import Answer
from tuning.simulation.record import Record
from tuning.simulation.sweep import simulate_sweep
from tuning.study import Study

NEVER = float("inf")
EARLIER_SEEDS = 100_000


@dataclass(frozen=True, kw_only=True)
class ArmRun:
    """A simulated sweep of an arm. `epochs`, `seconds`: until it first held a student as good as `target`; `NEVER` if it did not.

    `test_accuracy`: of the student that it held at the end of its budget; `regret`: how far that is below the record's best.
    """

    seed: int
    num_trials: int
    epochs_run: int
    target: float
    epochs: float
    seconds: float
    test_accuracy: float
    regret: float


@dataclass(frozen=True)
class _Sweep:
    seed: int
    num_trials: int
    epochs: int
    held: Sequence[Held]


Track = Callable[[Iterable[tuple[Arm, int]], int], Iterable[tuple[Arm, int]]]
"""Passes on the arms and seeds to run, given their total number, and may show progress."""


class Comparison:
    """Compares arms on one record with the same budget of epochs."""

    def __init__(
        self, record: Record, answer: Answer, *, epochs: int, workers: int, objective: str, earlier: Answer | None = None
    ) -> None:
        """`earlier`: answers of the earlier task, for arms that know the results of a search on it."""
        self._answer = answer
        self._earlier = earlier
        self._workers = workers
        self._objective = objective
        self._accuracies = record.accuracies(objective)
        self._epochs = epochs
        self.best = max(self._accuracies)

    def run(
        self,
        studies: Mapping[Arm, Study],
        seeds: Sequence[int],
        *,
        quantile: float | None = None,
        track: Track = lambda runs, total: runs,
    ) -> dict[Arm, list[ArmRun]]:
        """Run every arm with each of `seeds` -> by arm, one run per seed. The target is the first arm's final test accuracy.

        It is taken for each seed. `quantile`: use this quantile of the recorded test accuracies as the target instead.
        """
        wanted = [(arm, seed) for arm in studies for seed in seeds]
        sweeps = {(arm, seed): self._sweep(arm, studies[arm], seed) for arm, seed in track(wanted, len(wanted))}
        first = next(iter(studies))
        targets = {seed: self._target(sweeps[first, seed], quantile) for seed in seeds}
        return {arm: [self._judged(sweeps[arm, seed], targets[seed]) for seed in seeds] for arm in studies}

    def _sweep(self, arm: Arm, study: Study, seed: int) -> _Sweep:
        study = arm.within(study, self._epochs, seed)
        told = self._told(arm, study, seed) if arm.earlier else None
        events = simulate_sweep(study, self._answer, workers=self._workers, scheduler=arm.scheduler(study), told=told)
        within = _first_epochs(events, self._epochs)
        trials, epochs = (sum(isinstance(event, kind) for event in within) for kind in (Proposed, Epoch))
        return _Sweep(seed, trials, epochs, held_students(within, self._objective))

    def _told(self, arm: Arm, study: Study, seed: int) -> Transferred | None:
        """What the same search finds on the earlier task, with a seed that no comparison uses."""
        assert self._earlier is not None  # otherwise the arm was refused
        before = arm.without_earlier().within(study, self._epochs, EARLIER_SEEDS + seed)
        events = simulate_sweep(before, self._earlier, workers=self._workers, scheduler=arm.scheduler(before))
        told = transferred([fitted(launch_from_journal(_first_epochs(events, self._epochs), "earlier"), study)])
        return replace(told, scores=[1 - score for score in told.scores]) if told and arm.earlier == MISLED else told

    def _target(self, reference: _Sweep, quantile: float | None) -> float:
        if quantile is not None:
            return float(np.quantile(self._accuracies, quantile))
        return reference.held[-1].test_accuracy if reference.held else 0.0

    def _judged(self, sweep: _Sweep, target: float) -> ArmRun:
        reached = first_as_good(sweep.held, target)
        accuracy = sweep.held[-1].test_accuracy if sweep.held else 0.0
        return ArmRun(
            seed=sweep.seed,
            num_trials=sweep.num_trials,
            epochs_run=sweep.epochs,
            target=target,
            epochs=reached.epochs if reached else NEVER,
            seconds=reached.seconds if reached else NEVER,
            test_accuracy=accuracy,
            regret=self.best - accuracy,
        )


def _first_epochs(events: Iterable[Event], count: int) -> list[Event]:
    """The events up to the end of the `count`-th epoch over all trials."""
    kept: list[Event] = []
    for event in events:
        kept.append(event)
        count -= isinstance(event, Epoch)
        if not count:
            break
    return kept
