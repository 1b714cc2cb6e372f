"""Estimates how long a sweep will take on this machine: the time of a few real steps, times the number of steps."""

import itertools
import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import torch

from cpsc.config import DistillConfig
from cpsc.errors import ConfigError, CpscError
from cpsc.processors import num_processors
from cpsc.teacher import Teacher
from tuning.display import Display
from tuning.search.asha import rungs_of
from tuning.search.expected_epochs import expected_epochs
from tuning.storage import Storage
from tuning.study import Study, build_config
from tuning.study.teacher_fit import fitted, survey_teacher
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
TEACHER, PROBE, TRIALS, FINALISTS = "teacher", "probe set", "trials", "finalists"


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


@dataclass(frozen=True)
class _EpochTimes:
    """Seconds per epoch, and per epoch of the `warmup_epochs` at the start, in which only the generator trains."""

    epoch_s: float
    warmup_s: float
    warmup_epochs: int

    def of(self, epochs: float) -> float:
        """Seconds of the first `epochs` epochs."""
        alone = min(epochs, self.warmup_epochs)
        return alone * self.warmup_s + (epochs - alone) * self.epoch_s


def estimate_sweep(study: Study) -> Estimate:
    """Estimate the time of `study`, without the assets that exist already. If it fails, the estimate has only a `reason`."""
    try:
        return _estimate(study)
    except CpscError as error:
        return Estimate(parts={}, reason=str(error))


def _estimate(study: Study) -> Estimate:
    device, storage = study_device(study), Storage(study.storage)
    there = kept_teacher(study, Display(quiet=True))
    teacher = there or _stand_in(study)
    study = fitted(study, survey_teacher(teacher))
    parts = {}
    if there is None:
        parts[TEACHER] = _teacher_s(study, teacher, device)
    if there is None or not storage.exists(probe_name(there, study.probe, storage)):
        steps = study.probe.num_images // study.probe.batch_size * study.probe.steps
        parts[PROBE] = steps * time_probe_step(study.probe, teacher, device, within_s=ONCE_WITHIN_S)
    kinds = _kinds(study)
    measured = kinds[:: -(-len(kinds) // MOST_KINDS)]
    with threads(study.resources.cpus):
        runs = [_epoch_times(config, study, teacher, device, within_s=WITHIN_S / len(measured)) for config in measured]
    num_epochs = _num_epochs(study)
    parts[TRIALS] = _trials_s(study, runs, num_epochs)
    if (finalists := study.search.finalists) is not None:
        rounds = math.ceil(finalists.num_runs / max(1, num_processors() // study.finalist_cpus))
        parts[FINALISTS] = rounds * _mean(runs, finalists.length(study.config.epochs))
    return Estimate(
        parts=parts,
        epoch_s=sum(run.epoch_s for run in runs) / len(runs),
        num_epochs=num_epochs,
        left_out=tuple(_left_out(study, num_kinds=len(kinds), num_measured=len(measured), is_trained=there is not None)),
    )


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
    choices = [
        [(path, value) for value in study.space[path].arguments]
        for path in COSTLY
        if path in study.space and study.space[path].sampler == "choice"
    ]
    return [build_config(study.base, dict(chosen)) for chosen in itertools.product(*choices)]


def _epoch_times(config: DistillConfig, study: Study, teacher: Teacher, device: torch.device, *, within_s: float) -> _EpochTimes:
    step = time_steps(config, teacher, device, within_s=within_s)
    schedule = config.schedule
    turn_s = schedule.generator_steps * step.generator_s
    student_s = schedule.student_steps * step.student_s
    measuring_s = _num_asked(study) * step.answer_s
    warmup_turns = schedule.generator_warmup_turns or schedule.generator_turns
    return _EpochTimes(
        epoch_s=schedule.iterations * (schedule.generator_turns * turn_s + student_s) + measuring_s,
        warmup_s=schedule.iterations * warmup_turns * turn_s + measuring_s,
        warmup_epochs=schedule.generator_warmup_epochs,
    )


def _num_asked(study: Study) -> int:
    """Images that a student is evaluated on after each epoch, as far as their number is known."""
    examined = study.examiners.num_images if study.has_examiners else 0
    extent = study.dataset.extent if study.dataset else None
    return study.probe.num_images + examined + (extent.num_test if extent else 0)


def _num_epochs(study: Study) -> float:
    """Expected epochs of all trials under ASHA, with at least the examiners' epochs, and within the search's budget."""
    epochs, trials = study.config.epochs, study.search.num_trials
    rungs = rungs_of(study.prune, epochs)
    expected = expected_epochs(trials, epochs=epochs, rungs=rungs, reduction_factor=study.prune.reduction_factor)
    if study.has_examiners:
        expected += min(trials, study.examiners.count) * max(0.0, study.examiners.num_epochs(epochs) - expected / trials)
    return min(expected, study.search.epoch_budget or math.inf)


def _trials_s(study: Study, runs: list[_EpochTimes], num_epochs: float) -> float:
    trials, longest = study.search.num_trials, _mean(runs, study.config.epochs)
    together = trials * _mean(runs, num_epochs / trials) / concurrency(study)
    return min(max(together, longest), (study.search.time_budget_s or math.inf) + longest)


def _mean(runs: list[_EpochTimes], epochs: float) -> float:
    return sum(run.of(epochs) for run in runs) / len(runs)


def _left_out(study: Study, *, num_kinds: int, num_measured: int, is_trained: bool) -> Iterator[str]:
    yield "other load on this machine"
    yield "starting Ray and its workers, and recording"
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
