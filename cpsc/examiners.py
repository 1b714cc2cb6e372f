"""Examiners: runs of the distillation itself, cut short, on whose images the students of other runs are examined.

Beside the probe set, whose inverted images say little of a student that begins to learn, images of generators that others have
trained order students of photographs better. A run's own generator is trained to find where its student and the teacher
differ, so its images count for others alone.
"""

import hashlib
import json
import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, ClassVar, NamedTuple

import torch
from torch import Tensor

from cpsc import checkpoint
from cpsc.config import DistillConfig
from cpsc.errors import CheckpointError
from cpsc.kinds import of_stated_kinds
from cpsc.marks import Marks
from cpsc.rng import stream
from cpsc.rules import FORBID_UNKNOWN, require
from cpsc.teacher import Teacher

KIND = "file of examiners' images"
VERSION = 1
PROBE = 0
"""Source of an image of the probe set; examiners count from 1."""
SHORTEST, LONGEST = 4, 10
"""Epochs of an examiner where nothing is said: a tenth of a trial's within these."""


@dataclass(frozen=True, kw_only=True)
@of_stated_kinds("examiners")
class ExaminerConfig:
    """How many there are, how far they are trained, and how many images they give together."""

    __pydantic_config__: ClassVar[dict[str, Any]] = FORBID_UNKNOWN

    count: int = 4
    epochs: int | None = None
    """Default: a tenth of a trial's epochs, at least 4 and at most 10 of them. Images are those of the second half."""
    num_images: int = 2000

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
    """Names the run that `config` describes, its seed included: what tells a student's own examiner from others."""
    return hashlib.sha256(json.dumps(asdict(config), sort_keys=True, default=str).encode()).hexdigest()[:12]


@dataclass(frozen=True, kw_only=True)
class ExamImages:
    """`images`: uint8 [N, K, H, W]; `examiners`: int64 [N], who of `runs`, each named by its `run_digest`, has made which."""

    images: Tensor
    examiners: Tensor
    runs: tuple[str, ...]
    teacher_digest: str

    @classmethod
    def of_runs(cls, runs: Mapping[str, Tensor], teacher: Teacher) -> "ExamImages":
        """The images [n, K, H, W] of several runs, by their digests."""
        numbers = [torch.full((len(images),), index) for index, images in enumerate(runs.values())]
        return cls(
            images=torch.cat(list(runs.values())), examiners=torch.cat(numbers), runs=tuple(runs), teacher_digest=teacher.digest
        )

    @property
    def sources(self) -> Tensor:
        """Of each image, as `Exam` counts them."""
        return self.examiners + 1

    def source_of(self, run: str) -> int | None:
        """The source of the images that the run of that digest has made; None where it is no examiner."""
        return self.runs.index(run) + 1 if run in self.runs else None

    def save(self, path: Path) -> None:
        """Write atomically."""
        checkpoint.save({"version": VERSION, **vars(self), "runs": list(self.runs)}, path)

    @classmethod
    def load(cls, path: Path, *, teacher: Teacher) -> "ExamImages":
        """Read what `save` wrote; CheckpointError where it is missing, corrupt or of another teacher."""
        payload = checkpoint.load(path, kind=KIND, needs=list(cls.__dataclass_fields__))
        checkpoint.check_version(payload, VERSION, path=path, kind=KIND)
        if payload["teacher_digest"] != teacher.digest or not _is_sound(payload, teacher):
            raise CheckpointError(f"{path}: holds no images that runs with teacher {teacher.digest[:12]} have made")
        return cls(**{name: payload[name] for name in cls.__dataclass_fields__} | {"runs": tuple(payload["runs"])})


def _is_sound(payload: Mapping[str, Any], teacher: Teacher) -> bool:
    images, examiners, runs = payload["images"], payload["examiners"], payload["runs"]
    pixels = (teacher.channels, teacher.image_size, teacher.image_size)
    return (
        isinstance(images, Tensor)
        and isinstance(examiners, Tensor)
        and isinstance(runs, list)
        and all(isinstance(run, str) for run in runs)
        and len(images) > 0
        and (images.dtype, tuple(images.shape[1:])) == (torch.uint8, pixels)
        and (examiners.dtype, tuple(examiners.shape)) == (torch.int64, (len(images),))
        and 0 <= int(examiners.min()) <= int(examiners.max()) < len(runs)
    )


class ExamScores(NamedTuple):
    """Shares of images on which student and teacher pick the same class; see `Exam`."""

    examiners: float
    chosen_by: float
    held_out: float


class Exam:
    """The questions that a student is examined on, by `sources` [N]: `PROBE`, or which examiner has made the image.

    A student is chosen by one half of the images of each source. What it scores on the other half is not the highest of many
    scores with noise on them, and so is what may be told of it.
    """

    def __init__(self, sources: Tensor) -> None:
        self.sources = sources.cpu()
        self._for_choice = torch.zeros(len(sources), dtype=torch.bool)
        for source in self.sources.unique().tolist():
            places = (self.sources == source).nonzero().flatten()
            drawn = torch.randperm(len(places), generator=stream(0, f"halves of {source}"))
            self._for_choice[places[drawn[: (len(places) + 1) // 2]]] = True

    def scores(self, student: Tensor, teacher: Tensor, *, own: int | None = None) -> ExamScores:
        """Of `student` by its logits and the teacher's, [N, C]; images of the source `own` do not count.

        `chosen_by` and `held_out` are the mean of the agreement on the probe set and of that on examiners' images, each on its
        half; `examiners` is the agreement on all images of examiners.
        """
        agrees = (student.argmax(dim=1) == teacher.argmax(dim=1)).cpu()
        of_others = (self.sources != PROBE) & (self.sources != (PROBE if own is None else own))
        halves = (self._for_choice, ~self._for_choice)
        chosen_by, held_out = ((_share(agrees, of_others & half) + _share(agrees, self._of_probe & half)) / 2 for half in halves)
        return ExamScores(_share(agrees, of_others), chosen_by, held_out)

    def marks(self, student: Tensor, teacher: Tensor, *, own: int | None = None, by_probe_alone: bool = False) -> Marks:
        """What `student` has right of what it is chosen by; `by_probe_alone`: by all of the probe set and nothing else."""
        agrees = (student.argmax(dim=1) == teacher.argmax(dim=1)).cpu()
        asked = self._of_probe if by_probe_alone else self._for_choice
        sizes = [int((asked & (self.sources == source)).sum()) for source in self.sources.unique().tolist()]
        order = self.sources.argsort(stable=True)
        return Marks.of(agrees[order][asked[order]].tolist(), sizes if not by_probe_alone else sizes[:1], own)

    @property
    def _of_probe(self) -> Tensor:
        return self.sources == PROBE


def _share(agrees: Tensor, which: Tensor) -> float:
    return agrees[which].double().mean().item()


def balanced(images: Tensor, classes: Tensor, num: int) -> Tensor:
    """The first `num` of `images` of all `classes` [N] alike, or all where there are fewer."""
    rank = torch.zeros_like(classes)
    for label in classes.unique():
        of_class = classes == label
        rank[of_class] = torch.arange(int(of_class.sum()), device=classes.device, dtype=classes.dtype)
    return images[rank.argsort(stable=True)[:num]]
