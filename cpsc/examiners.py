"""Examiners: short runs of the same distillation whose images are used to examine the students of other runs.

The inverted images of the probe set say little about a student that has just begun to learn. Together with images from the
generators of other runs, they rank students of photographs better. A run's own generator is trained to find where its student and
the teacher differ, so its images count only for the students of other runs.
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
"""Limits of the default number of an examiner's epochs, which is a tenth of a trial's."""


@dataclass(frozen=True, kw_only=True)
@of_stated_kinds("examiners")
class ExaminerConfig:
    """How many examiners there are, how long they are trained, and how many images they provide together."""

    __pydantic_config__: ClassVar[dict[str, Any]] = FORBID_UNKNOWN

    count: int = 4
    epochs: int | None = None
    """Default: a tenth of a trial's epochs, at least 2 and at most 10. The images come from the second half of these epochs."""
    num_images: int = 1000

    def __post_init__(self) -> None:
        require(3 <= self.count <= 100, "examiners.count", self.count, "in 3..100 (with one or two, students are misjudged)")
        require(self.epochs is None or self.epochs >= 1, "examiners.epochs", self.epochs, ">= 1")
        require(self.count <= self.num_images <= 1_000_000, "examiners.num_images", self.num_images, "in examiners.count..1000000")

    def num_epochs(self, trial_epochs: int) -> int:
        """Epochs of an examiner if a trial has `trial_epochs`."""
        return min(trial_epochs, self.epochs or min(LONGEST, max(SHORTEST, math.ceil(trial_epochs / 10))))

    def shares(self, trial_epochs: int) -> dict[int, int]:
        """How many images an examiner provides after each epoch: equally many after each one in the second half."""
        last = self.num_epochs(trial_epochs)
        epochs = range(last // 2 + 1, last + 1)
        wanted = self.num_images // self.count
        return {epoch: wanted * (index + 1) // len(epochs) - wanted * index // len(epochs) for index, epoch in enumerate(epochs)}


def run_digest(config: DistillConfig) -> str:
    """Identifies the run that `config` describes, including its seed, to tell a student's own examiner from the others.

    Settings at their defaults do not count, so a launch that is resumed by a version with more settings still recognises its own
    examiners. The content of files that `config` names counts, too; ConfigError if one cannot be read.
    """
    return recipe_digest({**changed_fields(config), **method_class(config.method).SYNTHESIS.contents(config)})


@dataclass(frozen=True, kw_only=True)
class ExamImages:
    """Images of the examiners.

    `images`: uint8 [N, K, H, W]. `examiners`: int64 [N], the index in `runs` of the run that made each image. `runs`: the
    `run_digest` of each run. `weights`: how much the images of each run count; those of a generator whose student has
    learned nothing count little, because nothing ever forced it to show more. `fading`: see `Exam`; False for files of earlier
    versions, so that a launch is scored in the same way from beginning to end.
    """

    images: Tensor
    examiners: Tensor
    runs: tuple[str, ...]
    weights: tuple[float, ...]
    teacher_digest: str
    fading: bool = True

    @classmethod
    def of_runs(cls, runs: Mapping[str, Tensor], strengths: Mapping[str, float], teacher: Teacher) -> "ExamImages":
        """Collect the images [n, K, H, W] of several runs, by digest.

        `strengths`: the share of the probe set on which the run's own student agrees with the teacher at the end. The weight of a
        run is the part of it that is above chance.
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
        """Source of each image, as `Exam` numbers them: examiners count from 1."""
        return self.examiners + 1

    @property
    def weights_by_source(self) -> dict[int, float]:
        """`weights` by the numbers of `sources`."""
        return dict(enumerate(self.weights, start=1))

    def source_of(self, run: str) -> int | None:
        """The source number of the run with that digest; None if it is not an examiner."""
        return self.runs.index(run) + 1 if run in self.runs else None

    def save(self, path: Path) -> None:
        """Write atomically."""
        checkpoint.save({"version": VERSION, **vars(self), "runs": list(self.runs), "weights": list(self.weights)}, path)

    @classmethod
    def load(cls, path: Path, *, teacher: Teacher) -> "ExamImages":
        """Read what `save` wrote; CheckpointError if it is missing, corrupt or made with another teacher."""
        names = cls.__dataclass_fields__.keys()
        payload = {"fading": False} | checkpoint.load(path, kind=KIND, needs=sorted(names - {"fading"}))
        checkpoint.check_version(payload, VERSION, path=path, kind=KIND)
        if payload["teacher_digest"] != teacher.digest or not _is_sound(payload, teacher):
            raise CheckpointError(f"{path}: holds no images from runs with teacher {teacher.digest[:12]}")
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
    """How close a student's answers are to the teacher's; see `Exam`."""

    for_choice: float
    held_out: float
    everywhere: float


class Exam:
    """The images that a student is examined on. `sources` [N]: `PROBE`, or the number of the examiner that made the image.

    Each examiner counts by its weight in `weights`, by source. With `fading`, all examiners together count, relative to the probe
    set, by how much the student still has to learn there: by 1 minus its score on the probe set. Examiners' images tell weak
    students apart, but not those that have outgrown the examiners. Without `fading`, examiners and probe set count equally for
    every student.

    A student is chosen by one half of the images of each source. Its score on the other half is not the maximum of many noisy
    scores, and is therefore the one to report.
    """

    def __init__(self, sources: Tensor, weights: Mapping[int, float] | None = None, *, fading: bool = True) -> None:
        self.sources, self.fading = sources.cpu(), fading
        self.weights = weights or {source: 1.0 for source in self.sources.unique().tolist() if source != PROBE}
        self._for_choice, self._held_out = (torch.zeros(len(sources), dtype=torch.bool) for _ in range(2))
        for source in self.sources.unique().tolist():
            places = (self.sources == source).nonzero().flatten()
            drawn = places[torch.randperm(len(places), generator=stream(0, f"halves of {source}"))]
            self._for_choice[drawn[: (len(places) + 1) // 2]] = True
            self._held_out[drawn[len(places) // 2 :]] = True  # with an odd number both halves share the middle one

    def scores(self, points: Tensor, *, own: int | None = None) -> ExamScores:
        """Mean of `points` [N], each in [0, 1], on the probe set and the examiners' images, except those of the source `own`.

        Given for the half that students are chosen by, for the other half, and for all images.
        """
        parts = (self._for_choice, self._held_out, torch.ones_like(self._for_choice))
        return ExamScores(*(self._mean(points.cpu().double(), part, own) for part in parts))

    def marks(self, agrees: Tensor, *, own: int | None = None, by_probe_alone: bool = False) -> Marks:
        """Marks from `agrees` [N] on the images that a student is chosen by; with `by_probe_alone`, on the whole probe set only."""
        asked = self.sources == PROBE if by_probe_alone else self._for_choice
        sizes = [int((asked & (self.sources == source)).sum()) for source in self.sources.unique().tolist()]
        order = self.sources.argsort(stable=True)
        return Marks.of(agrees.cpu()[order][asked[order]].tolist(), sizes[:1] if by_probe_alone else sizes, own)

    def by_examiners(self, points: Tensor, *, own: int | None = None, part: Tensor | None = None) -> float:
        """Weighted mean of `points` [N] on the examiners' images, within the mask `part` [N] if given."""
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
    """`num` of `images`, the first ones of each class, equally many of all `classes` [N]; all images if there are fewer."""
    rank = torch.zeros_like(classes)
    for label in classes.unique():
        of_class = classes == label
        rank[of_class] = torch.arange(int(of_class.sum()), device=classes.device, dtype=classes.dtype)
    return images[rank.argsort(stable=True)[:num]]
