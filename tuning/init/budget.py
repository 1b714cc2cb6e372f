"""Budget of a first study: the trials, epochs and processors that fit into the user's time on this machine."""

import math
from dataclasses import dataclass

import torch

from cpsc.processors import num_processors
from cpsc.teacher import Teacher
from tuning.study import Study, build_config
from tuning.study.config import ResourceConfig
from tuning.study.teacher_fit import fitted, survey_teacher
from tuning.trial.resources import study_device
from tuning.trial.step_times import threads, time_probe_step, time_steps

MOST_AT_A_TIME = 8
"""Most trials at a time: parallel trials cannot learn from each other, so large machines give each trial more processors."""
LADDER = ((32, 2.0), (24, 1.5), (16, 1.5), (16, 1.0), (12, 1.0), (8, 1.0), (8, 0.5))
"""(trials, epochs as a multiple of the scale's), the largest budget first."""
WITHIN_S = 2.0
"""Time limit in seconds for measuring long steps."""


@dataclass(frozen=True, kw_only=True)
class Pace:
    """Measured times on this machine, in seconds."""

    epoch_s: float
    """One epoch of a trial, training only."""
    probe_s: float
    """Making the probe set."""


@dataclass(frozen=True, kw_only=True)
class Budget:
    """Size of a search, and roughly how long it takes."""

    num_trials: int
    epochs: int
    seconds: float


def resources_here() -> ResourceConfig:
    """Resources of one trial: a GPU if there is one, and its share of the processors."""
    processors, gpus = num_processors(), torch.cuda.device_count()
    at_a_time = min(gpus or MOST_AT_A_TIME, processors)
    return ResourceConfig(cpus=math.ceil(processors / at_a_time) if not gpus else processors // at_a_time, gpus=1 if gpus else 0)


def measure_pace(study: Study, teacher: Teacher) -> Pace:
    """Measure a few steps of distillation, at the study's first point, and of making the probe set."""
    device = study_device(study)
    run = fitted(study, survey_teacher(teacher))
    config, probe = build_config(run.base, run.first_point), run.probe
    schedule = config.schedule
    with threads(study.resources.cpus):
        step = time_steps(config, teacher, device, within_s=WITHIN_S)
        probe_step_s = time_probe_step(probe, teacher, device, within_s=WITHIN_S)
    turn_s = schedule.generator_steps * step.generator_s
    return Pace(
        epoch_s=schedule.iterations * (schedule.generator_turns * turn_s + schedule.student_steps * step.student_s),
        probe_s=probe.num_images // probe.batch_size * probe.steps * probe_step_s,
    )


def fitting_budget(study: Study, pace: Pace, *, at_a_time: int, minutes: float) -> Budget:
    """The largest budget on the ladder that ends within `minutes`, or the smallest. `study` must have its scale's epochs."""
    budgets = [
        _budget(study, pace, num_trials=max(trials, 2 * at_a_time), epochs=round(share * study.config.epochs), at_a_time=at_a_time)
        for trials, share in LADDER
    ]
    return next((budget for budget in budgets if budget.seconds <= 60 * minutes), budgets[-1])


def _budget(study: Study, pace: Pace, *, num_trials: int, epochs: int, at_a_time: int) -> Budget:
    from tuning.search.asha import rungs_of  # importing Ray takes seconds, which should not delay the questions
    from tuning.search.expected_epochs import expected_epochs

    epochs = max(epochs, study.prune.grace_epochs + 1)
    of_examiners = study.examiners.count * study.examiners.num_epochs(epochs)
    rungs, factor = rungs_of(study.prune, epochs), study.prune.reduction_factor
    of_trials = expected_epochs(num_trials, epochs=epochs, rungs=rungs, reduction_factor=factor)
    seconds = pace.probe_s + pace.epoch_s * (of_examiners + of_trials) / at_a_time
    return Budget(num_trials=num_trials, epochs=epochs, seconds=seconds)
