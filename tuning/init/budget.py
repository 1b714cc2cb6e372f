"""Budget of a first study: the trials, epochs and processors that fit into the user's time on this machine."""

import math
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import torch

from cpsc.processors import num_processors
from tuning.study import Study
from tuning.study.config import ResourceConfig
from tuning.trial.resources import concurrency

if TYPE_CHECKING:  # importing Ray takes seconds, which should not delay the questions
    from tuning.sweep.sweep_times import SweepTimes

MOST_AT_A_TIME = 8
"""Most trials at a time: parallel trials cannot learn from each other, so large machines give each trial more processors."""
LADDER = ((32, 2.0), (24, 1.5), (16, 1.5), (16, 1.0), (12, 1.0), (8, 1.0), (8, 0.5))
"""(trials, epochs as a multiple of the scale's), the largest budget first."""


@dataclass(frozen=True, kw_only=True)
class Budget:
    """Size of a search, and roughly how long the whole sweep takes."""

    num_trials: int
    epochs: int
    seconds: float


def resources_here() -> ResourceConfig:
    """Resources of one trial: a GPU if there is one, and its share of the processors."""
    processors, gpus = num_processors(), torch.cuda.device_count()
    at_a_time = min(gpus or MOST_AT_A_TIME, processors)
    return ResourceConfig(cpus=math.ceil(processors / at_a_time) if not gpus else processors // at_a_time, gpus=1 if gpus else 0)


def fitting_budget(study: Study, times: "SweepTimes", *, minutes: float) -> Budget:
    """The largest budget on the ladder that ends within `minutes`, or the smallest. `study` must have its scale's epochs."""
    fewest = 2 * concurrency(study)
    budgets = [
        _budget(study, times, num_trials=max(trials, fewest), epochs=round(share * study.config.epochs)) for trials, share in LADDER
    ]
    return next((budget for budget in budgets if budget.seconds <= 60 * minutes), budgets[-1])


def _budget(study: Study, times: "SweepTimes", *, num_trials: int, epochs: int) -> Budget:
    epochs = max(epochs, study.prune.grace_epochs + 1)
    sized = replace(
        study,
        base=replace(study.base, own={**study.base.own, "epochs": epochs}),
        search=study.search.model_copy(update={"num_trials": num_trials}),
    )
    return Budget(num_trials=num_trials, epochs=epochs, seconds=sum(times.parts(sized).values()))
