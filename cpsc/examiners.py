"""Examiners: runs of the distillation itself, cut short, on whose images the students of other runs are examined.

Beside the probe set, whose inverted images say little of a student that begins to learn, images of generators that others have
trained order students of photographs better. A run's own generator is trained to find where its student and the teacher
differ, so its images count for others alone.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar, NamedTuple

import torch
from torch import Tensor

from cpsc import checkpoint
from cpsc.config import DistillConfig
from cpsc.digests import recipe_digest
from cpsc.errors import CheckpointError
from cpsc.kinds import of_stated_kinds
from cpsc.marks import Marks
from cpsc.methods import method_class
from cpsc.rng import stream
from cpsc.rules import FORBID_UNKNOWN, changed_fields, require
from cpsc.teacher import Teacher

KIND = "file of examiners' images"
VERSION = 1
PROBE = 0
"""Source of an image of the probe set; examiners count from 1."""
SHORTEST, LONGEST = 2, 10
"""Epochs of an examiner where nothing is said: a tenth of a trial's within these."""


@dataclass(frozen=True, kw_only=True)
@of_stated_kinds("examiners")
class ExaminerConfig:
    """How many there are, how far they are trained, and how many images they give together."""

    __pydantic_config__: ClassVar[dict[str, Any]] = FORBID_UNKNOWN

    count: int = 4
    epochs: int | None = None
    """Default: a tenth of a trial's epochs, at least 2 and at most 10 of them. Images are those of the second half."""
    num_images: int = 1000

    def __post_init__(self) -> None:
        require(3 <= self.count <= 100, "examiners.count", self.count, "in 3..100: the images of one or two misjudge students")
        require(self.epochs is None or self.epochs >= 1, "examiners.epochs", self.epochs, ">= 1")
        require(self.count <= self.num_images <= 1_000_000, "examiners.num_images", self.num_images, "in examiners.count..1000000")

    def num_epochs(self, trial_epochs: int) -> int:
        """Of an examiner, where trials have so many."""
        return min(trial_epochs, self.epochs or min(LONGEST, max(SHORTEST, math.ceil(trial_epochs / 10))))

    def shares(self, trial_epochs: int) -> dict[int, int]:
        """By epoch, how many images an examiner gives after it: those of the second half of its epochs, alike."""
        last = self.num_epochs(trial_epochs)
        epochs = range(last // 2 + 1, last + 1)
        wanted = self.num_images // self.count
        return {epoch: wanted * (index + 1) // len(epochs) - wanted * index // len(epochs) for index, epoch in enumerate(epochs)}


def run_digest(config: DistillConfig) -> str:
    """Names the run that `config` describes, its seed included: what tells a student's own examiner from others.

    A launch that is resumed by a version with more settings knows its own examiners still. What stands in files that `config`
    names counts, too; ConfigError where one cannot be read.
    """
    return recipe_digest({**changed_fields(config), **method_class(config.method).SYNTHESIS.contents(config)})


@dataclass(frozen=True, kw_only=True)
class ExamImages:
    """`images`: uint8 [N, K, H, W]; `examiners`: int64 [N], who of `runs`, each named by its `run_digest`, has made which.

    `weights`: how much the images of each run count. A generator whose student has learned nothing was never made to show more.
    `fading`: see `Exam`; those that an earlier version made do not fade, so that a launch of its is scored to its end as it began.
    """

    images: Tensor
    examiners: Tensor
    runs: tuple[str, ...]
    weights: tuple[float, ...]
    teacher_digest: str
    fading: bool = True

    @classmethod
    def of_runs(cls, runs: Mapping[str, Tensor], strengths: Mapping[str, float], teacher: Teacher) -> "ExamImages":
        """The images [n, K, H, W] of several runs, by their digests.

        `strengths`: the share of the probe set on which the run's own student agrees with the teacher at its end. What is above
        chance counts.
        """
        numbers = [torch.full((len(images),), index) for index, images in enumerate(runs.values())]
        return cls(
            images=torch.cat(list(runs.values())),
            examiners=torch.cat(numbers),
            runs=tuple(runs),
            weights=tuple(max(0.0, strengths[run] - 1 / teacher.num_classes) for run in runs),
            teacher_digest=teacher.digest,
        )

    @property
    def sources(self) -> Tensor:
        """Of each image, as `Exam` counts them."""
        return self.examiners + 1

    @property
    def weights_by_source(self) -> dict[int, float]:
        """The same of `weights`."""
        return dict(enumerate(self.weights, start=1))

    def source_of(self, run: str) -> int | None:
        """The source of the images that the run of that digest has made; None where it is no examiner."""
        return self.runs.index(run) + 1 if run in self.runs else None

    def save(self, path: Path) -> None:
        """Write atomically."""
        checkpoint.save({"version": VERSION, **vars(self), "runs": list(self.runs), "weights": list(self.weights)}, path)

    @classmethod
    def load(cls, path: Path, *, teacher: Teacher) -> "ExamImages":
        """Read what `save` wrote; CheckpointError where it is missing, corrupt or of another teacher."""
        names = cls.__dataclass_fields__.keys()
        payload = {"fading": False} | checkpoint.load(path, kind=KIND, needs=sorted(names - {"fading"}))
        checkpoint.check_version(payload, VERSION, path=path, kind=KIND)
        if payload["teacher_digest"] != teacher.digest or not _is_sound(payload, teacher):
            raise CheckpointError(f"{path}: holds no images that runs with teacher {teacher.digest[:12]} have made")
        lists = {name: tuple(payload[name]) for name in ("runs", "weights")}
        return cls(**{name: payload[name] for name in names} | lists)


def _is_sound(payload: Mapping[str, Any], teacher: Teacher) -> bool:
    images, examiners, runs, weights = (payload[name] for name in ("images", "examiners", "runs", "weights"))
    pixels = (teacher.channels, teacher.image_size, teacher.image_size)
    return (
        isinstance(images, Tensor)
        and isinstance(examiners, Tensor)
        and isinstance(runs, list)
        and all(isinstance(run, str) for run in runs)
        and isinstance(weights, list)
        and len(weights) == len(runs)
        and all(type(weight) is float and 0 <= weight <= 1 for weight in weights)
        and type(payload["fading"]) is bool
        and len(images) > 0
        and (images.dtype, tuple(images.shape[1:])) == (torch.uint8, pixels)
        and (examiners.dtype, tuple(examiners.shape)) == (torch.int64, (len(images),))
        and 0 <= int(examiners.min()) <= int(examiners.max()) < len(runs)
    )


class ExamScores(NamedTuple):
    """How near a student's answers come to the teacher's; see `Exam`."""

    for_choice: float
    held_out: float
    everywhere: float


class Exam:
    """The questions that a student is examined on, by `sources` [N]: `PROBE`, or which examiner has made the image.

    Of examiners each counts by its weight in `weights`, by source, and all together, beside the probe set, as far as the student
    has something to learn there: by what its points on the probe set lack to one. Examiners' images tell weak students apart, not
    those that have outgrown the examiners. So it is where it is `fading`; else both count alike, whatever the student.

    A student is chosen by one half of the images of each source. What it scores on the other half is not the highest of many
    scores with noise on them, and so is what may be told of it.
    """

    def __init__(self, sources: Tensor, weights: Mapping[int, float] | None = None, *, fading: bool = True) -> None:
        self.sources, self.fading = sources.cpu(), fading
        self.weights = weights or {source: 1.0 for source in self.sources.unique().tolist() if source != PROBE}
        self._for_choice, self._held_out = (torch.zeros(len(sources), dtype=torch.bool) for _ in range(2))
        for source in self.sources.unique().tolist():
            places = (self.sources == source).nonzero().flatten()
            drawn = places[torch.randperm(len(places), generator=stream(0, f"halves of {source}"))]
            self._for_choice[drawn[: (len(places) + 1) // 2]] = True
            self._held_out[drawn[len(places) // 2 :]] = True  # of an odd number both halves have the one in the middle

    def scores(self, points: Tensor, *, own: int | None = None) -> ExamScores:
        """The mean of `points` [N], each in 0 to 1, on the probe set and examiners' images, without those of the source `own`.

        On the half for the choice, on the other, and on all of them.
        """
        parts = (self._for_choice, self._held_out, torch.ones_like(self._for_choice))
        return ExamScores(*(self._mean(points.cpu().double(), part, own) for part in parts))

    def marks(self, agrees: Tensor, *, own: int | None = None, by_probe_alone: bool = False) -> Marks:
        """Which it `agrees` on [N] of what a student is chosen by; `by_probe_alone`: by all of the probe set and nothing else."""
        asked = self.sources == PROBE if by_probe_alone else self._for_choice
        sizes = [int((asked & (self.sources == source)).sum()) for source in self.sources.unique().tolist()]
        order = self.sources.argsort(stable=True)
        return Marks.of(agrees.cpu()[order][asked[order]].tolist(), sizes[:1] if by_probe_alone else sizes, own)

    def by_examiners(self, points: Tensor, *, own: int | None = None, part: Tensor | None = None) -> float:
        """The mean of `points` [N] on examiners' images, in the `part` [N] of all."""
        points = points.cpu().double()
        counted = {source: weight for source, weight in self.weights.items() if source != own}
        if not sum(counted.values()):
            counted = dict.fromkeys(counted, 1.0)
        means = {source: points[self._of(source, part)].mean().item() for source in counted}
        return sum(weight * means[source] for source, weight in counted.items()) / sum(counted.values())

    def _mean(self, points: Tensor, part: Tensor, own: int | None) -> float:
        on_probe = points[self._of(PROBE, part)].mean().item()
        weight = 1.0 - on_probe if self.fading else 1.0
        return (on_probe + weight * self.by_examiners(points, own=own, part=part)) / (1.0 + weight)

    def _of(self, source: int, part: Tensor | None) -> Tensor:
        return self.sources == source if part is None else (self.sources == source) & part


def balanced(images: Tensor, classes: Tensor, num: int) -> Tensor:
    """The first `num` of `images` of all `classes` [N] alike, or all where there are fewer."""
    rank = torch.zeros_like(classes)
    for label in classes.unique():
        of_class = classes == label
        rank[of_class] = torch.arange(int(of_class.sum()), device=classes.device, dtype=classes.dtype)
    return images[rank.argsort(stable=True)[:num]]
