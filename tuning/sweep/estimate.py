"""Estimates how long a sweep will take on this machine: the time of a few real steps, times the number of steps."""

import itertools
import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import torch

from cpsc.config import DistillConfig
from cpsc.errors import ConfigError, CpscError
from cpsc.teacher import Teacher
from tuning.display import Display
from tuning.storage import Storage
from tuning.study import Study, build_config
from tuning.study.teacher_fit import fitted, survey_teacher
from tuning.sweep.sweep_times import PROBE, TEACHER, EpochTimes, SweepTimes, num_epochs
from tuning.time_left import in_words
from tuning.trial.assets import kept_teacher, probe_name
from tuning.trial.resources import concurrency, study_device
from tuning.trial.step_times import threads, time_probe_step, time_steps, time_teacher_step, untrained_teacher

WITHIN_S = 2.0
"""Time limit in seconds for measuring steps of trials."""
ONCE_WITHIN_S = 0.7
"""The same for what is made once: teacher and probe set."""
MOST_KINDS = 4
"""Most combinations of method and network that are measured."""
COSTLY = ("method", "student.arch")
"""Searched parameters that change the kind of steps."""


@dataclass(frozen=True, kw_only=True)
class Estimate:
    """Seconds by part of a sweep and per epoch of a trial, and what they leave out.

    `num_epochs`: expected epochs of all trials with ASHA. `reason`: why there is no estimate, if there is none.
    """

    parts: dict[str, float]
    epoch_s: float = 0.0
    num_epochs: float = 0.0
    left_out: tuple[str, ...] = ()
    reason: str = ""

    @property
    def minutes(self) -> float | None:
        """The sum of all parts; None if there is no estimate."""
        return None if self.reason else sum(self.parts.values()) / 60

    def figures(self) -> dict[str, Any]:
        """The estimate for a script."""
        return {
            "minutes": self.minutes,
            "seconds": self.parts,
            "epoch_s": self.epoch_s,
            "num_epochs": self.num_epochs,
            "left_out": list(self.left_out),
            "reason": self.reason,
        }

    def lines(self) -> list[str]:
        """The estimate for a user."""
        if self.minutes is None:
            return [f"no time estimate: {self.reason}"]
        parts = ", ".join(f"{name} {in_words(seconds)}" for name, seconds in self.parts.items())
        return [
            f"about {in_words(60 * self.minutes)} on this machine ({parts}): "
            f"{self.epoch_s:.2g} s per epoch, about {self.num_epochs:.0f} epochs",
            f"left out: {'; '.join(self.left_out)}",
        ]


def estimate_sweep(study: Study) -> Estimate:
    """Estimate the time of `study`, without the assets that exist already. If it fails, the estimate has only a `reason`."""
    try:
        return _estimate(study)
    except CpscError as error:
        return Estimate(parts={}, reason=str(error))


def _estimate(study: Study) -> Estimate:
    there = kept_teacher(study, Display(quiet=True))
    teacher = there or _stand_in(study)
    study = fitted(study, survey_teacher(teacher))
    times = measure_times(study, teacher, is_trained=there is not None)
    return Estimate(
        parts=times.parts(study),
        epoch_s=times.epoch_s,
        num_epochs=num_epochs(study),
        left_out=tuple(_left_out(study, num_measured=len(times.runs), is_trained=there is not None)),
    )


def measure_times(study: Study, teacher: Teacher, *, is_trained: bool = True) -> SweepTimes:
    """Measure a few steps of `study`, which is fitted to `teacher`. `is_trained`: otherwise an untrained one stands in for it."""
    device, storage, made = study_device(study), Storage(study.storage), {}
    if not is_trained:
        made[TEACHER] = _teacher_s(study, teacher, device)
    if not is_trained or not storage.exists(probe_name(teacher, study.probe, storage)):
        steps = study.probe.num_images // study.probe.batch_size * study.probe.steps
        made[PROBE] = steps * time_probe_step(study.probe, teacher, device, within_s=ONCE_WITHIN_S)
    kinds = _kinds(study)
    measured = kinds[:: -(-len(kinds) // MOST_KINDS)]
    with threads(study.resources.cpus):
        runs = [_epoch_times(config, study, teacher, device, within_s=WITHIN_S / len(measured)) for config in measured]
    return SweepTimes(made=made, runs=runs)


def _stand_in(study: Study) -> Teacher:
    """An untrained network like the teacher, which is not trained yet. ConfigError if the size of its images is unknown."""
    recipe, dataset = study.teacher.recipe, study.dataset
    assert recipe is not None
    assert dataset is not None
    if (extent := dataset.extent) is None or dataset.num_classes is None:
        raise ConfigError(f"the teacher is not trained yet, and the image size of {dataset.name} is known only once it is read")
    return untrained_teacher(recipe.arch, num_classes=dataset.num_classes, channels=extent.channels, image_size=extent.image_size)


def _teacher_s(study: Study, teacher: Teacher, device: torch.device) -> float:
    recipe, extent = study.teacher.recipe, study.dataset.extent if study.dataset else None
    assert recipe is not None
    assert extent is not None
    steps = recipe.epochs * math.ceil(extent.num_train / recipe.batch_size)
    return steps * time_teacher_step(recipe, teacher, device, within_s=ONCE_WITHIN_S)


def _kinds(study: Study) -> list[DistillConfig]:
    """Configs with different kinds of steps: one for each combination of searched method and network."""
    return [build_config(study.base, dict(chosen)) for chosen in itertools.product(*_choices(study))]


def _choices(study: Study) -> list[list[tuple[str, Any]]]:
    """The options of each searched parameter that changes the kind of steps."""
    return [
        [(path, value) for value in study.space[path].arguments]
        for path in COSTLY
        if path in study.space and study.space[path].sampler == "choice"
    ]


def _epoch_times(config: DistillConfig, study: Study, teacher: Teacher, device: torch.device, *, within_s: float) -> EpochTimes:
    step = time_steps(config, teacher, device, within_s=within_s)
    schedule = config.schedule
    turn_s = schedule.generator_steps * step.generator_s
    student_s = schedule.student_steps * step.student_s
    measuring_s = _num_asked(study) * step.answer_s
    warmup_turns = schedule.generator_warmup_turns or schedule.generator_turns
    return EpochTimes(
        epoch_s=schedule.iterations * (schedule.generator_turns * turn_s + student_s) + measuring_s,
        warmup_s=schedule.iterations * warmup_turns * turn_s + measuring_s,
        warmup_epochs=schedule.generator_warmup_epochs,
    )


def _num_asked(study: Study) -> int:
    """Images that a student is evaluated on after each epoch, as far as their number is known."""
    examined = study.examiners.num_images if study.has_examiners else 0
    extent = study.dataset.extent if study.dataset else None
    return study.probe.num_images + examined + (extent.num_test if extent else 0)


def _left_out(study: Study, *, num_measured: int, is_trained: bool) -> Iterator[str]:
    num_kinds = math.prod(map(len, _choices(study)))
    yield "other load on this machine"
    if concurrency(study) > 1:
        yield "slow-down of parallel trials by each other"
    if study.prune.scheduler == "asha":
        yield "how well the search does, so that ASHA stops more or fewer trials"
    if num_measured < num_kinds:
        yield f"{num_kinds - num_measured} of the {num_kinds} kinds of run that are searched"
    if searched := [path for path in study.space if path.startswith("schedule.")]:
        yield f"the searched values of {', '.join(searched)}"
    if study.config.compile:
        yield "compilation, and its speed-up"
    if study.config.student.initial != "random":
        yield "making a student's first weights"
    if study.dataset is not None and study.dataset.extent is None:
        yield "test images, since their number is not known"
    if study.search.stop.trials_without_gain or study.search.stop.terminator:
        yield "an early end of the search"
    if not is_trained:
        yield "reading the dataset"
