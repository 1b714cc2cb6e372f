"""The probe set: images inverted from a teacher, on which students are compared without real images.

DeepInversion (Yin et al. 2020, arXiv:1912.08795) without its student: class-balanced labels, batch-norm
statistics, total variation and jitter. No trial ever trains on these images.
"""

import functools
import math
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, ClassVar

import torch
from torch import Tensor

from cpsc import checkpoint
from cpsc.config import (
    DistillConfig,
    GeneratorConfig,
    InversionConfig,
    LossWeights,
    Precision,
    ScheduleConfig,
)
from cpsc.device import autocast, resolve_precision
from cpsc.digests import recipe_digest
from cpsc.errors import CheckpointError
from cpsc.kinds import of_stated_kinds
from cpsc.loop import Phase, TermLog, run_phase
from cpsc.methods import Terms
from cpsc.methods.adi import Adi
from cpsc.metrics import accuracy, predict
from cpsc.observation import BatchViews
from cpsc.rng import RandomStreams, derive_seed
from cpsc.rules import FORBID_UNKNOWN, require
from cpsc.statistics import StatisticsRecorder
from cpsc.synthesis import InvertedBatches
from cpsc.teacher import Teacher

PROBE_VERSION = 1
TERMS = ("label", "batch_statistics", "total_variation", "image_norm")


@dataclass(frozen=True, kw_only=True)
@of_stated_kinds("probe")
class ProbeConfig:
    """Size and objective of the inversion; the weights are factors of the terms in `cpsc.losses`."""

    __pydantic_config__: ClassVar[dict[str, Any]] = FORBID_UNKNOWN

    num_images: int = 1000
    batch_size: int = 250
    steps: int = 500
    lr: float = 0.1
    batch_statistics: float = 1.0
    total_variation: float = 2.5e-4
    image_norm: float = 3e-8
    label: float = 1.0
    jitter: int = 2
    """Each step shifts the batch circularly by up to this many pixels."""
    seed: int = 0
    precision: Precision = "auto"
    """Precision of the teacher's passes, as in trials."""

    def __post_init__(self) -> None:
        for name in ("num_images", "batch_size", "steps", "lr"):
            require(0 < getattr(self, name) < math.inf, f"probe.{name}", getattr(self, name), "> 0")
        for name in ("batch_statistics", "total_variation", "image_norm", "label", "jitter", "seed"):
            require(0 <= getattr(self, name) < math.inf, f"probe.{name}", getattr(self, name), ">= 0")
        for name, limit in (("num_images", 1_000_000), ("steps", 1_000_000), ("jitter", 1024)):
            require(getattr(self, name) <= limit, f"probe.{name}", getattr(self, name), f"<= {limit}")
        require(
            self.num_images % self.batch_size == 0,
            "probe.num_images",
            self.num_images,
            f"a multiple of probe.batch_size ({self.batch_size}): statistics are matched batch by batch",
        )

    @property
    def terms(self) -> tuple[str, ...]:
        """The names of the terms with a weight above 0."""
        return tuple(name for name in TERMS if getattr(self, name))

    @property
    def digest(self) -> str:
        """Identifies the recipe; together with the teacher's digest, it identifies the images."""
        return recipe_digest({"annealed": True, **asdict(self)})

    @property
    def earlier_digest(self) -> str:
        """Digest of the recipe of earlier versions (constant rate, float32), with which launches begun by them continue."""
        return recipe_digest({name: value for name, value in asdict(self).items() if name != "precision"})


@dataclass(frozen=True, kw_only=True)
class ProbeSet:
    """`images`: uint8 [N, K, H, W]; `labels`: int64 [N], the classes they were made for; and the teacher they come from."""

    images: Tensor
    labels: Tensor
    teacher_digest: str
    teacher_accuracy: float
    """Share of the images that the teacher gives the class they were made for."""

    def by_class(self, *, columns: int) -> Tensor:
        """The first images of each class, at most `columns` and equally many, for a picture -> uint8 [C, columns, K, H, W]."""
        rows = [self.images[self.labels == label] for label in self.labels.unique()]
        columns = min(columns, *(len(row) for row in rows))
        return torch.stack([row[:columns] for row in rows])

    def save(self, path: Path) -> None:
        """Write atomically."""
        checkpoint.save({"version": PROBE_VERSION, **vars(self)}, path)

    @classmethod
    def load(cls, path: Path, *, teacher: Teacher) -> "ProbeSet":
        """Read a probe set; CheckpointError if it is missing, corrupt or made from another teacher."""
        try:
            probe = cls(**checkpoint.load_fields(path, list(cls.__dataclass_fields__), version=PROBE_VERSION, kind="probe set"))
            _check_made_from(teacher, probe, path)
        except CheckpointError as error:
            raise CheckpointError(f"{error}; delete it to make a new one") from error
        return probe


def _check_made_from(teacher: Teacher, probe: ProbeSet, path: Path) -> None:
    """Raise CheckpointError unless `probe`, which comes from a file, has the types and shapes that `teacher` takes."""
    maker = probe.teacher_digest[:12] if isinstance(probe.teacher_digest, str) else "without a digest"
    if maker != teacher.digest[:12] or probe.teacher_digest != teacher.digest:
        raise CheckpointError(f"{path}: made from teacher {maker}, not {teacher.digest[:12]}")
    images, labels, score = probe.images, probe.labels, probe.teacher_accuracy
    pixels = (teacher.channels, teacher.image_size, teacher.image_size)
    rules = {
        "images": isinstance(images, Tensor) and (images.dtype, images.shape[1:]) == (torch.uint8, pixels) and len(images) > 0,
        "labels": isinstance(labels, Tensor) and (labels.dtype, labels.ndim) == (torch.int64, 1),
        "teacher_accuracy": type(score) is float and 0 <= score <= 1,
    }
    odd = [name for name, holds in rules.items() if not holds]
    if not odd and not (len(images) == len(labels) and 0 <= int(labels.min()) <= int(labels.max()) < teacher.num_classes):
        odd = ["labels"]
    if odd:
        raise CheckpointError(f"{path}: not a probe set, {odd[0]} is not valid for this teacher")


@dataclass(frozen=True, kw_only=True)
class UnfinishedProbe:
    """An unfinished probe set between two steps. `done`: steps of all batches so far; `turn`, `streams`: state to continue from."""

    done: int
    turn: Mapping[str, Any]
    streams: Mapping[str, Tensor]
    maker: str
    """Identifies teacher, recipe and type of device."""

    def save(self, path: Path) -> None:
        """Write atomically."""
        checkpoint.save({"version": PROBE_VERSION, **vars(self)}, path)

    @classmethod
    def load(cls, path: Path, teacher: Teacher, config: ProbeConfig, device: torch.device) -> "UnfinishedProbe":
        """Read what `save` wrote; CheckpointError if it is missing, corrupt, or from another teacher, recipe or device."""
        names = list(cls.__dataclass_fields__)
        found = cls(**checkpoint.load_fields(path, names, version=PROBE_VERSION, kind="unfinished probe set"))
        if found.maker != _maker(teacher, config, device):
            raise CheckpointError(f"{path}: made with another teacher, recipe or device")
        return found


def _maker(teacher: Teacher, config: ProbeConfig, device: torch.device) -> str:
    return f"{teacher.digest} {config.digest} {device.type}"


def synthesise(
    teacher: Teacher,
    config: ProbeConfig,
    device: torch.device,
    *,
    on_step: Callable[[int, int], None] = lambda done, total: None,
    begun: UnfinishedProbe | None = None,
    keep: Callable[[Callable[[], UnfinishedProbe]], None] = lambda state: None,
) -> ProbeSet:
    """Invert `teacher` into `config.num_images` images with balanced labels; `on_step(done, total)` reports progress.

    Each batch is a generator turn of the method ADI without its student. `keep` is called before each step with a function that
    returns the state. Continuing from such a state, `begun`, gives the same images, bit for bit. Raises DivergedError if a term is
    not finite or has exploded.
    """
    inversion = _Inversion(teacher, config, device, on_step=on_step, keep=keep)
    return inversion.run(begun)


class _Inversion:
    """Makes a probe set, batch by batch, from the beginning or from the middle of a batch."""

    def __init__(
        self,
        teacher: Teacher,
        config: ProbeConfig,
        device: torch.device,
        *,
        on_step: Callable[[int, int], None],
        keep: Callable[[Callable[[], UnfinishedProbe]], None],
    ) -> None:
        self._teacher, self._config, self._device = teacher, config, device
        self._on_step, self._keep = on_step, keep
        self._settings = _as_adi(config)
        precision = resolve_precision(config.precision, device)
        network = teacher.build(device, precision=precision)
        self._cast = autocast(precision, device)
        self._streams = RandomStreams(derive_seed(config.seed, "probe"), device)
        self._synthesis = InvertedBatches(self._settings, teacher, self._streams, device)
        self._method = Adi(self._settings, teacher=network, student=network)
        recorder = StatisticsRecorder(network, weight="probe.batch_statistics") if self._method.needs_statistics else None
        self._views = BatchViews(network, network, self._method, recorder=recorder)
        self._log = TermLog("probe set", self._method.generator_weights, diverged_above=self._settings.diverged_above)
        self._total, self._done = config.num_images // config.batch_size * config.steps, 0

    def run(self, begun: UnfinishedProbe | None) -> ProbeSet:
        """Make all batches, starting from `begun` if given."""
        if begun is not None:
            self._done = begun.done
        while self._done < self._total:
            run_phase(self._turn(begun), self._log)
            self._log.raise_if_diverged()
            begun = None
        images, labels = self._synthesis.finished()
        seen = self._teacher.normalisation.normalise(images)
        return ProbeSet(
            images=images.cpu(),
            labels=labels.cpu(),
            teacher_digest=self._teacher.digest,
            teacher_accuracy=accuracy(predict(self._teacher.build(self._device), seen), labels),
        )

    def _turn(self, begun: UnfinishedProbe | None) -> Phase:
        """The generator turn that inverts a batch, or the rest of it, at a learning rate that falls to 0."""
        return Phase(
            name="probe set",
            steps=self._config.steps - self._done % self._config.steps,
            modules=self._synthesis.modules,
            terms=self._terms,
            weights=self._method.generator_weights,
            optimizers=self._synthesis.optimizers,
            scaler=torch.amp.GradScaler(self._device.type, enabled=False),
            begin=self._synthesis.begin if begun is None else functools.partial(self._go_on, begun),
            on_loss=self._on_loss,
            end=self._synthesis.end,
        )

    def _terms(self) -> Terms:
        self._keep(self._state)
        with self._cast():
            return self._method.generator_terms(self._views.generator_view(self._synthesis.batch()))

    def _on_loss(self, loss: Tensor) -> None:
        self._synthesis.on_loss(loss)
        self._done += 1
        self._on_step(self._done, self._total)

    def _state(self) -> UnfinishedProbe:
        self._log.raise_if_diverged()  # a diverged state must not be continued
        return UnfinishedProbe(
            done=self._done,
            turn=self._synthesis.turn_state(),
            streams=self._streams.state_dict(),
            maker=_maker(self._teacher, self._config, self._device),
        )

    def _go_on(self, begun: UnfinishedProbe) -> None:
        self._synthesis.load_turn_state(begun.turn)
        self._streams.load_state_dict(begun.streams)


def _as_adi(config: ProbeConfig) -> DistillConfig:
    """The same inversion as settings of the method ADI, without a disagreeing student."""
    terms = {name: getattr(config, name) for name in TERMS}
    return DistillConfig(
        method="adi",
        seed=config.seed,
        weights=LossWeights(**{"l2": 0.0, "adversarial": 0.0, "contrast": 0.0, **terms}),
        generator=GeneratorConfig(lr=config.lr, beta1=0.5, beta2=0.99, decay_lr=False),
        schedule=ScheduleConfig(generator_steps=config.steps, batch_size=config.batch_size),
        inversion=InversionConfig(annealing="cosine", clip=True, clip_noise=True, jitter=config.jitter),
        precision="fp32",
    )
