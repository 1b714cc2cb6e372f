"""Records the students' answers, epoch by epoch, to the images they are compared on, so that any criterion can be computed."""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from cpsc import checkpoint
from cpsc.errors import CheckpointError

KIND = "file of answers"
VERSION = 1
PRECISION = torch.float16
"""Precision of the logits that are kept: 20 kB per epoch for 1,000 images of ten classes."""


@dataclass(frozen=True)
class Answers:
    """Logits on the same images. `teacher`: [N, C]; `students`: [E, N, C], the student after each of the `epochs`.

    `sources`: int64 [N], the source of each image as numbered in `cpsc.examiners.Exam`, with the exam's `weights` and `fading`.
    `own`: the source whose images the run made itself.
    """

    teacher: Tensor
    epochs: tuple[int, ...]
    students: Tensor
    sources: Tensor
    weights: Mapping[int, float] = field(default_factory=dict)
    own: int | None = None
    fading: bool = False

    def from_source(self, which: Tensor) -> "Answers":
        """The answers to the images that the mask `which` [N] selects."""
        return replace(self, teacher=self.teacher[which], students=self.students[:, which], sources=self.sources[which])

    @classmethod
    def load(cls, path: Path) -> "Answers":
        """Read what `AnswerLog.save` wrote, as float32. CheckpointError if it is something else."""
        payload = checkpoint.load(path, kind=KIND, needs=("version", "teacher", "epochs", "students"))
        checkpoint.check_version(payload, VERSION, path=path, kind=KIND)
        if not _is_sound(payload):
            raise CheckpointError(f"{path}: does not hold logits of a teacher and, epoch by epoch, of students")
        sources = payload.get("sources", torch.zeros(len(payload["teacher"]))).long()
        exam = {name: payload[name] for name in ("weights", "own", "fading") if name in payload}
        return cls(payload["teacher"].float(), tuple(payload["epochs"]), payload["students"].float(), sources, **exam)


class AnswerLog:
    """The answers of a run's students so far, and those of the `teacher`, logits [N, C].

    `sources` [N]: sources of the images, by default all from the probe set. `weights`, `own`, `fading`: see `Answers`.
    """

    def __init__(
        self,
        teacher: Tensor,
        sources: Tensor | None = None,
        *,
        weights: Mapping[int, float] | None = None,
        own: int | None = None,
        fading: bool = True,
    ) -> None:
        self._teacher = _kept(teacher)
        self._exam = {"weights": dict(weights or {}), "own": own, "fading": fading}
        self._sources = torch.zeros(len(teacher), dtype=torch.int64) if sources is None else sources.cpu()
        self._students: dict[int, Tensor] = {}

    def add(self, epoch: int, logits: Tensor) -> None:
        """Add the `logits` [N, C] of the student after `epoch`; if an epoch is run again, they replace the first ones."""
        self._students[epoch] = _kept(logits)

    def save(self, path: Path) -> None:
        """Write everything to a file, atomically."""
        epochs = sorted(self._students)
        students = (
            torch.stack([self._students[epoch] for epoch in epochs]) if epochs else self._teacher.new_empty(0, *self._teacher.shape)
        )
        where = {"sources": self._sources.to(torch.int16), **self._exam}
        checkpoint.save({"version": VERSION, "teacher": self._teacher, "epochs": epochs, "students": students, **where}, path)

    def load(self, path: Path) -> None:
        """Continue from a file. CheckpointError if it is not one that `save` wrote, or is for other images."""
        known = Answers.load(path)
        if known.teacher.shape != self._teacher.shape or not torch.equal(known.sources, self._sources):
            found, wanted = tuple(known.teacher.shape), tuple(self._teacher.shape)
            raise CheckpointError(f"{path}: must hold answers of shape {wanted} to this run's images, holds {found} to others")
        self._students = {epoch: _kept(logits) for epoch, logits in zip(known.epochs, known.students, strict=True)}


def _kept(logits: Tensor) -> Tensor:
    """A float16 copy, clipped to its largest value, because a diverging student has answers, too."""
    largest = torch.finfo(PRECISION).max
    return logits.detach().float().clamp(-largest, largest).to("cpu", PRECISION, copy=True)


def _is_sound(payload: Mapping[str, Any]) -> bool:
    teacher, epochs, students = payload["teacher"], payload["epochs"], payload["students"]
    sources, weights, own = (payload.get(name) for name in ("sources", "weights", "own"))  # absent in files of earlier versions
    return (
        (own is None or type(own) is int)
        and type(payload.get("fading", False)) is bool
        and (weights is None or _are_weights(weights))
        and isinstance(teacher, Tensor)
        and isinstance(students, Tensor)
        and isinstance(epochs, list)
        and all(type(epoch) is int and epoch > 0 for epoch in epochs)
        and len(set(epochs)) == len(epochs)
        and teacher.ndim == 2
        and teacher.is_floating_point()
        and students.is_floating_point()
        and students.shape == (len(epochs), *teacher.shape)
        and bool(teacher.isfinite().all() and students.isfinite().all())
        and (sources is None or _are_sources(sources, len(teacher)))
    )


def _are_weights(weights: object) -> bool:
    return isinstance(weights, dict) and all(type(key) is int and type(value) is float for key, value in weights.items())


def _are_sources(sources: object, num_images: int) -> bool:
    return isinstance(sources, Tensor) and (sources.dtype, tuple(sources.shape)) == (torch.int16, (num_images,))
