"""Budget of a first study: trials, epochs and processors that this machine gets through in the time that its user has."""

import itertools
import math
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace

import torch

from cpsc.distiller import Distiller
from cpsc.probe import ProbeSet, synthesise
from cpsc.processors import num_processors
from cpsc.teacher import Teacher
from tuning.study import Study, build_config
from tuning.study.config import PruneConfig, ResourceConfig
from tuning.study.teacher_fit import fitted, survey_teacher
from tuning.trial.resources import study_device

MOST_AT_A_TIME = 8
"""Trials: the search learns nothing from those that run beside each other, so wide machines give each more processors."""
LADDER = ((32, 2.0), (24, 1.5), (16, 1.5), (16, 1.0), (12, 1.0), (8, 1.0), (8, 0.5))
"""Trials, and epochs as a multiple of the scale's, the largest budget first."""
MEASURED_STEPS = 2
PROBE_IMAGES, PROBE_STEPS = 50, 2
LONG_S = 10.0
"""An epoch that takes longer is not measured again, warm."""


@dataclass(frozen=True, kw_only=True)
class Pace:
    """Seconds on this machine, measured."""

    epoch_s: float
    """Of a trial, training alone."""
    probe_s: float
    """Of the probe set."""


@dataclass(frozen=True, kw_only=True)
class Budget:
    """What a search may use, and about how long that takes."""

    num_trials: int
    epochs: int
    seconds: float


def resources_here() -> ResourceConfig:
    """What one trial gets: a GPU where there is one, and its part of the processors."""
    processors, gpus = num_processors(), torch.cuda.device_count()
    at_a_time = min(gpus or MOST_AT_A_TIME, processors)
    return ResourceConfig(cpus=math.ceil(processors / at_a_time) if not gpus else processors // at_a_time, gpus=1 if gpus else 0)


def measure_pace(study: Study, teacher: Teacher) -> Pace:
    """Of the study's first point, by a few steps of its own distillation and of its probe set."""
    device = study_device(study)
    run = fitted(study, survey_teacher(teacher))
    with _threads(study.resources.cpus):
        probe = replace(run.probe, num_images=PROBE_IMAGES, batch_size=PROBE_IMAGES, steps=PROBE_STEPS)
        started = time.perf_counter()
        synthesised = synthesise(teacher, probe, device)
        passes = run.probe.num_images * run.probe.steps / (PROBE_IMAGES * PROBE_STEPS)
        probe_s = passes * (time.perf_counter() - started)
        return Pace(epoch_s=_epoch_s(run, teacher, synthesised, device), probe_s=probe_s)


def _epoch_s(run: Study, teacher: Teacher, probe: ProbeSet, device: torch.device) -> float:
    """An epoch of few steps, and what it would take with all of them."""
    config = build_config(run.base, run.first_point)
    whole = config.schedule
    few = replace(
        whole,
        iterations=1,
        generator_turns=1,
        generator_steps=min(MEASURED_STEPS, whole.generator_steps),
        student_steps=min(MEASURED_STEPS, whole.student_steps),
    )
    distiller = Distiller(replace(config, schedule=few), teacher, probe=probe, device=device)
    trained = distiller.train_epoch()
    if trained["train_s"] < LONG_S:  # the first is slower: memory is new to it, and what it would replay is not there
        trained = distiller.train_epoch()
    images = trained["generation_s"] * whole.generator_turns * whole.generator_steps / few.generator_steps
    student = trained["distillation_s"] * whole.student_steps / few.student_steps
    return whole.iterations * (images + student)


def fitting_budget(study: Study, pace: Pace, *, at_a_time: int, minutes: float) -> Budget:
    """The largest on the ladder that ends in so many minutes, or the smallest of all. `study`: with its scale's epochs."""
    budgets = [
        _budget(study, pace, num_trials=max(trials, 2 * at_a_time), epochs=round(share * study.config.epochs), at_a_time=at_a_time)
        for trials, share in LADDER
    ]
    return next((budget for budget in budgets if budget.seconds <= 60 * minutes), budgets[-1])


def _budget(study: Study, pace: Pace, *, num_trials: int, epochs: int, at_a_time: int) -> Budget:
    epochs = max(epochs, study.prune.grace_epochs + 1)
    of_examiners = study.examiners.count * study.examiners.num_epochs(epochs)
    of_trials = num_trials * epochs * share_run(study.prune, epochs)
    seconds = pace.probe_s + pace.epoch_s * (of_examiners + of_trials) / at_a_time
    return Budget(num_trials=num_trials, epochs=epochs, seconds=seconds)


def share_run(prune: PruneConfig, epochs: int) -> float:
    """Of all epochs of all trials, those that ASHA leaves to run where at each rung one of `reduction_factor` trials goes on.

    Li et al. 2020 (arXiv:1810.05934), algorithm 2, once many trials have come by.
    """
    from tuning.search.asha import rungs_of  # Ray takes seconds to import, and most teachers are asked about first

    stages = [0, *rungs_of(prune, epochs), epochs]
    lengths = [later - earlier for earlier, later in itertools.pairwise(stages)]
    return sum(length / prune.reduction_factor**index for index, length in enumerate(lengths)) / epochs


@contextmanager
def _threads(number: int) -> Iterator[None]:
    """As many as a trial has."""
    before = torch.get_num_threads()
    torch.set_num_threads(number)
    try:
        yield
    finally:
        torch.set_num_threads(before)
