"""MB-DFKD's memory bank: some of the earlier images themselves (Binici et al., WACV 2022, arXiv:2108.05698)."""

import torch
from torch import Tensor

from cpsc.config import DistillConfig
from cpsc.models import Output
from cpsc.replay.base import AbstractReplay, Recalled
from cpsc.rng import RandomStreams
from cpsc.teacher import Teacher


class ImageReplay(AbstractReplay):
    """Keeps the last `replay.capacity` images that were stored; each is equally likely to be recalled.

    Every `replay.every_epochs` epochs it stores the first images of the last batch, as many as are recalled at once; if that
    setting is 0, it stores all new images of every batch. They are kept as float16 in the networks' input space, because a
    generator need not make valid pixels. `num_features`: those of the teacher, whose answers are stored if `replay.answers` is
    `kept`.
    """

    def __init__(
        self, config: DistillConfig, teacher: Teacher, *, num_features: int, streams: RandomStreams, device: torch.device
    ) -> None:
        super().__init__()
        self._config = config.replay
        self._rng = streams.named("replay")
        self._batch_size = config.schedule.batch_size
        fraction = config.replay.fraction
        self.num_images = max(1, round(self._batch_size * fraction)) if fraction else 0
        rows, side = config.replay.capacity, teacher.image_size
        self.register_buffer("images", torch.zeros(rows, teacher.channels, side, side, dtype=torch.float16, device=device))
        answered = rows if self._config.answers == "kept" else 0
        self.register_buffer("features", torch.zeros(answered, num_features, device=device))
        self.register_buffer("logits", torch.zeros(answered, teacher.num_classes, device=device))
        self.images: Tensor
        self.features: Tensor
        self.logits: Tensor
        self.num_written = 0
        self._last: tuple[Tensor, Output] | None = None

    @property
    def num_stored(self) -> int:
        """Number of images that can be recalled."""
        return min(self.num_written, len(self.images))

    @property
    def num_stored_bytes(self) -> int:
        taken = sum(buffer[0].numel() * buffer.element_size() for buffer in self.buffers() if len(buffer))
        return self.num_stored * taken

    def recall(self) -> Recalled | None:
        """[min(num_images, num_stored), K, H, W], no image twice."""
        return self._drawn(self.num_images) if self.num_stored and self.num_images else None

    def rehearsed(self) -> Recalled:
        """[min(batch size, num_stored), K, H, W], no image twice."""
        return self._drawn(self._batch_size)

    def remember(self, novel: Tensor, answers: Output) -> None:
        if self._config.every_epochs:
            self._last = novel, answers
        else:
            self._keep(novel, answers)

    def end_epoch(self, epoch: int) -> None:
        every = self._config.every_epochs
        if every and self._last is not None and (epoch - 1) % every == 0:
            novel, answers = self._last
            number = self.num_images or self._batch_size
            self._keep(novel[:number], answers.first(number))
        self._last = None

    def _drawn(self, number: int) -> Recalled:
        rows = torch.randperm(self.num_stored, device=self.images.device, generator=self._rng)[:number]
        kept = Output(self.features[rows], self.logits[rows]) if len(self.logits) else None
        return Recalled(self.images[rows].float(), kept)

    def _keep(self, images: Tensor, answers: Output) -> None:
        fitting = slice(-len(self.images), None)
        images, answers = images[fitting], Output(answers.features[fitting], answers.logits[fitting])
        rows = (self.num_written + torch.arange(len(images), device=images.device)) % len(self.images)
        self.images[rows] = images.half()
        if len(self.logits):
            self.features[rows] = answers.features
            self.logits[rows] = answers.logits
        self.num_written += len(images)

    def get_extra_state(self) -> dict[str, int]:
        return {"num_written": self.num_written}

    def set_extra_state(self, state: dict[str, int]) -> None:
        self.num_written = state["num_written"]
