"""How long the parts of a sweep take on this machine, from the measured time of a few of its steps."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from cpsc.processors import num_processors
from tuning.search.asha import rungs_of
from tuning.search.expected_epochs import expected_epochs
from tuning.study import Study
from tuning.trial.resources import concurrency

START, TEACHER, PROBE, TRIALS, FINALISTS = "start and records", "teacher", "probe set", "trials", "finalists"

START_S = 20.0
"""Seconds for imports, Ray, its workers and the registration of the student: 21 measured on two slow, idle cores. The first command
after an installation takes longer, because Python compiles the libraries."""


@dataclass(frozen=True)
class EpochTimes:
    """Seconds per epoch, and per epoch of the `warmup_epochs` at the start, in which only the generator trains."""

    epoch_s: float
    warmup_s: float = 0.0
    warmup_epochs: int = 0

    def of(self, epochs: float) -> float:
        """Seconds of the first `epochs` epochs."""
        alone = min(epochs, self.warmup_epochs)
        return alone * self.warmup_s + (epochs - alone) * self.epoch_s


@dataclass(frozen=True, kw_only=True)
class SweepTimes:
    """Measured seconds of a study's steps.

    `made`: of the teacher and the probe set, as far as they are still to be made. `runs`: one for each kind of run measured.
    """

    made: Mapping[str, float]
    runs: Sequence[EpochTimes]

    @property
    def epoch_s(self) -> float:
        """Seconds of a later epoch, mean over kinds of runs."""
        return sum(run.epoch_s for run in self.runs) / len(self.runs)

    def parts(self, study: Study) -> dict[str, float]:
        """Seconds by part of a sweep of `study`: the measured one, possibly with another budget."""
        parts = {START: START_S, **self.made, TRIALS: self._trials_s(study)}
        if (finalists := study.search.finalists) is not None:
            rounds = math.ceil(finalists.num_runs / max(1, num_processors() // study.finalist_cpus))
            parts[FINALISTS] = rounds * self._mean(finalists.length(study.config.epochs))
        return parts

    def _trials_s(self, study: Study) -> float:
        trials, longest = study.search.num_trials, self._mean(study.config.epochs)
        together = trials * self._mean(num_epochs(study) / trials) / concurrency(study)
        return min(max(together, longest), (study.search.time_budget_s or math.inf) + longest)

    def _mean(self, epochs: float) -> float:
        return sum(run.of(epochs) for run in self.runs) / len(self.runs)


def num_epochs(study: Study) -> float:
    """Expected epochs of all trials under ASHA, with at least the examiners' epochs, and within the search's budget."""
    epochs, trials = study.config.epochs, study.search.num_trials
    rungs = rungs_of(study.prune, epochs)
    expected = expected_epochs(trials, epochs=epochs, rungs=rungs, reduction_factor=study.prune.reduction_factor)
    if study.has_examiners:
        expected += min(trials, study.examiners.count) * max(0.0, study.examiners.num_epochs(epochs) - expected / trials)
    return min(expected, study.search.epoch_budget or math.inf)
