"""Seconds per step of a trial, of its teacher and of its probe set on this machine, measured on a few real steps.

The weights make no difference to the time: an untrained network can stand in for a missing teacher, and noise for images.
"""

import math
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace

import torch

from cpsc.config import DistillConfig, ReplayConfig, ScheduleConfig
from cpsc.data import Dataset, Normalisation, Split
from cpsc.distiller import Distiller
from cpsc.measurement import Measurement
from cpsc.models import build_model
from cpsc.probe import ProbeConfig, ProbeSet, synthesise
from cpsc.rng import seeded_init
from cpsc.teacher import UNKNOWN, Teacher
from cpsc.teacher_training import TeacherRecipe, train_teacher

FEWEST_IMAGES = 8
"""Smallest batch that is measured in place of a larger one."""
MOST_STEPS = 8
ASKED_IMAGES = 64
STEPS_OF_A_PROBE = 3
LEAST_SLOPE = 0.5
"""Least time of an additional image, as a share of the mean time per image: two measurements close together may suggest less."""
NO_LIMIT = 1e30
"""Loss above which a run counts as diverged: untrained networks may disagree without bound, which takes no longer."""


@dataclass(frozen=True)
class StepTimes:
    """Seconds per generator step, per student step including the replay after it, and per image that a student is evaluated on."""

    generator_s: float
    student_s: float
    answer_s: float


def untrained_teacher(arch: str, *, num_classes: int, channels: int, image_size: int) -> Teacher:
    """One of the package's networks with its initial weights, as a teacher."""
    with seeded_init(0, "teacher"):
        network = build_model(arch, num_classes=num_classes, channels=channels)
    return Teacher(
        arch=arch,
        class_names=tuple(map(str, range(num_classes))),
        channels=channels,
        image_size=image_size,
        normalisation=Normalisation(mean=(0.5,) * channels, std=(0.25,) * channels),
        dataset=UNKNOWN,
        test_accuracy=None,
        state=network.state_dict(),
    )


def time_steps(config: DistillConfig, teacher: Teacher, device: torch.device, *, within_s: float) -> StepTimes:
    """Measure the steps of a run of `config`; if they are long, on smaller batches, so that it takes about `within_s` seconds."""
    images = _noise(ASKED_IMAGES, teacher.channels, teacher.image_size)
    labels = torch.arange(ASKED_IMAGES) % teacher.num_classes
    probe = ProbeSet(images=images, labels=labels, teacher_digest=teacher.digest, teacher_accuracy=0.0)
    measurement = Measurement(teacher, device, probe=probe)

    def times_of(batch: int) -> tuple[float, ...]:
        distiller = Distiller(_shortened(config, batch), teacher, measurement=measurement)
        distiller.train_epoch()  # one-off work is done in this one
        clock, schedule = _Clock(device), distiller.config.schedule
        metrics = distiller.train_epoch()
        share = clock.alone_share()
        return share * metrics["generation_s"] / schedule.generator_steps, share * metrics[
            "distillation_s"
        ] / schedule.student_steps

    generator_s, student_s = _scaled(config.schedule.batch_size, times_of, within_s=within_s)
    distiller = Distiller(_shortened(config, FEWEST_IMAGES), teacher, measurement=measurement)
    distiller.evaluate()
    clock = _Clock(device)
    distiller.evaluate()
    return StepTimes(generator_s, student_s, clock.seconds_alone() / ASKED_IMAGES)


def time_teacher_step(recipe: TeacherRecipe, teacher: Teacher, device: torch.device, *, within_s: float) -> float:
    """Seconds per step of training by `recipe`, on images of the size that `teacher` takes."""

    def times_of(batch: int) -> tuple[float, ...]:
        images = Split(_noise(batch, teacher.channels, teacher.image_size), torch.arange(batch) % teacher.num_classes)
        dataset = Dataset("noise", images, images, teacher.class_names, teacher.normalisation, crop_padding=2, flip=True)
        clock, ends = _Clock(device), list[float]()
        once = replace(recipe, epochs=2, warmup_epochs=0, batch_size=batch)
        train_teacher(once, dataset, device, on_epoch=lambda epoch, loss: ends.append(clock.seconds_alone()))
        return (ends[1] - ends[0],)

    return _scaled(recipe.batch_size, times_of, within_s=within_s)[0]


def time_probe_step(config: ProbeConfig, teacher: Teacher, device: torch.device, *, within_s: float) -> float:
    """Seconds per step of inverting a batch of the probe set from `teacher`."""

    def times_of(batch: int) -> tuple[float, ...]:
        clock, ends = _Clock(device), list[float]()
        few = replace(config, num_images=batch, batch_size=batch, steps=STEPS_OF_A_PROBE)
        synthesise(teacher, few, device, on_step=lambda done, total: ends.append(clock.seconds_alone()))
        return ((ends[-1] - ends[0]) / (len(ends) - 1),)

    return _scaled(config.batch_size, times_of, within_s=within_s)[0]


@contextmanager
def threads(count: int) -> Iterator[None]:
    """Use `count` threads inside the block, as a trial does."""
    before = torch.get_num_threads()
    torch.set_num_threads(count)
    try:
        yield
    finally:
        torch.set_num_threads(before)


class _Clock:
    """Time since the clock was made, as it would be if no other process used the processors.

    On a CPU that is this process's CPU time divided by its threads; on a GPU it is the elapsed time.
    """

    def __init__(self, device: torch.device) -> None:
        self._is_shared = device.type == "cpu"
        self._started, self._used = time.perf_counter(), time.process_time()

    def seconds_alone(self) -> float:
        passed = time.perf_counter() - self._started
        return min(passed, (time.process_time() - self._used) / torch.get_num_threads()) if self._is_shared else passed

    def alone_share(self) -> float:
        """`seconds_alone` as a share of the elapsed time."""
        return self.seconds_alone() / (time.perf_counter() - self._started)


def _scaled(batch: int, times_of: Callable[[int], Sequence[float]], *, within_s: float) -> list[float]:
    """Seconds at `batch`: measured there or, if that takes longer than `within_s`, extrapolated from two smaller sizes."""
    sizes = _halves(batch)
    smallest = sizes[-1]
    few = times_of(smallest)
    an_image = sum(few) * MOST_STEPS / smallest
    largest = next((size for size in sizes if size * an_image <= within_s), smallest)
    many = few if largest == smallest else times_of(largest)
    return [_extended((smallest, less), (largest, more), batch) for less, more in zip(few, many, strict=True)]


def _extended(smaller: tuple[int, float], larger: tuple[int, float], batch: int) -> float:
    """Seconds at `batch` on the line through two measured sizes; its slope is at least `LEAST_SLOPE` of the mean time per image."""
    (few, less), (many, more) = smaller, larger
    average = more / many
    slope = average if many == few else min(max((more - less) / (many - few), LEAST_SLOPE * average), average)
    return more + slope * (batch - many)


def _halves(batch: int) -> list[int]:
    """`batch`, half of it, a quarter and so on, while the sizes are whole and not too small."""
    sizes = [batch]
    while sizes[-1] % 2 == 0 and sizes[-1] // 2 >= FEWEST_IMAGES:
        sizes.append(sizes[-1] // 2)
    return sizes


def _shortened(config: DistillConfig, batch: int) -> DistillConfig:
    """The same networks and terms, with epochs of a few steps on batches of `batch` images, or the nearest size by halving."""
    full = config.schedule
    size = min(_halves(full.batch_size), key=lambda half: abs(half - batch))
    share = size / full.batch_size
    turns = full.generator_turns * full.generator_steps
    generator_steps = min(full.generator_steps, MOST_STEPS // 2)
    student_steps = max(1, min(MOST_STEPS, full.student_steps, round(generator_steps * full.student_steps / turns)))
    schedule: ScheduleConfig = replace(
        full,
        iterations=1,
        generator_turns=1,
        generator_steps=generator_steps,
        student_steps=student_steps,
        batch_size=size,
        student_batch_size=None if full.student_batch_size is None else max(2, round(full.student_batch_size * share)),
        generator_warmup_epochs=0,
        generator_warmup_turns=None,
    )
    return replace(
        config,
        schedule=schedule,
        replay=_shortened_replay(config.replay, share=student_steps / full.student_steps),
        student=replace(config.student, initial="random", hints=0.0),
        compile=False,
        diverged_above=NO_LIMIT,
    )


def _shortened_replay(replay: ReplayConfig, *, share: float) -> ReplayConfig:
    """The same number of autoencoder updates per student step."""
    return replace(replay, updates=math.ceil(replay.updates * share)) if replay.kind == "vae" else replay


def _noise(num: int, channels: int, image_size: int) -> torch.Tensor:
    shape = (num, channels, image_size, image_size)
    return torch.randint(0, 256, shape, dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
