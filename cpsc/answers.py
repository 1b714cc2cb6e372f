"""Answers of a run's students, epoch by epoch, to the images that they are compared on: any criterion can be computed later."""

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
"""Of the logits that are kept: 20 kB an epoch for 1,000 images of ten classes."""


@dataclass(frozen=True)
class Answers:
    """Logits on the same images. `teacher`: [N, C]; `students`: [E, N, C], the student after each of the `epochs`.

    `sources`: int64 [N], where each image comes from, as `cpsc.examiners.Exam` counts, with its `weights` and `fading`; `own`: the
    source that is the run's own.
    """

    teacher: Tensor
    epochs: tuple[int, ...]
    students: Tensor
    sources: Tensor
    weights: Mapping[int, float] = field(default_factory=dict)
    own: int | None = None
    fading: bool = False

    def from_source(self, which: Tensor) -> "Answers":
        """Those to the images that the mask `which` [N] picks."""
        return replace(self, teacher=self.teacher[which], students=self.students[:, which], sources=self.sources[which])

    @classmethod
    def load(cls, path: Path) -> "Answers":
        """Read what `AnswerLog.save` wrote, in float32. CheckpointError where it is something else."""
        payload = checkpoint.load(path, kind=KIND, needs=("version", "teacher", "epochs", "students"))
        checkpoint.check_version(payload, VERSION, path=path, kind=KIND)
        if not _is_sound(payload):
            raise CheckpointError(f"{path}: holds no logits of a teacher and, epoch by epoch, of students")
        sources = payload.get("sources", torch.zeros(len(payload["teacher"]))).long()
        exam = {name: payload[name] for name in ("weights", "own", "fading") if name in payload}
        return cls(payload["teacher"].float(), tuple(payload["epochs"]), payload["students"].float(), sources, **exam)


class AnswerLog:
    """What a run's students have answered so far, beside the answers of the `teacher`, logits [N, C].

    `sources` [N]: where the images come from, all from the probe set unless said; `weights`, `own`, `fading`: see `Answers`.
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
        """Take in the `logits` [N, C] of the student after `epoch`; those of an epoch that is run again replace the first."""
        self._students[epoch] = _kept(logits)

    def save(self, path: Path) -> None:
        """Write all to a file, atomically."""
        epochs = sorted(self._students)
        students = (
            torch.stack([self._students[epoch] for epoch in epochs]) if epochs else self._teacher.new_empty(0, *self._teacher.shape)
        )
        where = {"sources": self._sources.to(torch.int16), **self._exam}
        checkpoint.save({"version": VERSION, "teacher": self._teacher, "epochs": epochs, "students": students, **where}, path)

    def load(self, path: Path) -> None:
        """Go on from a file. CheckpointError where it is none, or of other images."""
        known = Answers.load(path)
        if known.teacher.shape != self._teacher.shape or not torch.equal(known.sources, self._sources):
            found, wanted = tuple(known.teacher.shape), tuple(self._teacher.shape)
            raise CheckpointError(f"{path}: holds answers to {found}, this run's are {wanted}")
        self._students = {epoch: _kept(logits) for epoch, logits in zip(known.epochs, known.students, strict=True)}


def _kept(logits: Tensor) -> Tensor:
    """A copy; what float16 cannot hold is its largest: a student that diverges has answers too."""
    largest = torch.finfo(PRECISION).max
    return logits.detach().float().clamp(-largest, largest).to("cpu", PRECISION, copy=True)


def _is_sound(payload: Mapping[str, Any]) -> bool:
    teacher, epochs, students = payload["teacher"], payload["epochs"], payload["students"]
    sources, weights, own = (payload.get(name) for name in ("sources", "weights", "own"))  # an earlier version wrote none
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
