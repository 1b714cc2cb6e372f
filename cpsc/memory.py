"""Memories of methods: a pool of finished images, a bank of features, and the size of both in bytes."""

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from cpsc.errors import CheckpointError
from cpsc.statistics import ChannelStatistics


class ImagePool:
    """All images finished so far, as uint8 on the device; beyond `limit` the oldest are dropped.

    They are stored one after another in a buffer with free space at its end. When it is full, the images that are kept move into a
    buffer twice as large, so that each image is copied about once, however many batches come.
    """

    def __init__(self, *, limit: int, channels: int, image_size: int, device: torch.device) -> None:
        self._limit = limit
        self._buffer = torch.empty(0, channels, image_size, image_size, dtype=torch.uint8, device=device)
        self._start = self._end = 0

    def __len__(self) -> int:
        return self._end - self._start

    @property
    def num_bytes(self) -> int:
        """Size of the images, without the free space."""
        return self.images.numel()

    @property
    def images(self) -> Tensor:
        """uint8 [N, K, H, W], the oldest first; a view of the buffer that does not change when images are added."""
        return self._buffer[self._start : self._end]

    def add(self, images: Tensor) -> None:
        """Keep `images`, uint8 [B, K, H, W]."""
        images = images[-self._limit :]
        if self._end + len(images) > len(self._buffer):
            self._move(room=len(images))
        self._buffer[self._end : self._end + len(images)] = images
        self._end += len(images)
        self._start = max(self._start, self._end - self._limit)

    def state_dict(self) -> dict[str, Any]:
        return {"images": self.images.clone()}  # a view would be saved with the whole buffer

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        images = state["images"]
        if not isinstance(images, Tensor) or images.dtype != torch.uint8 or images.shape[1:] != self._buffer.shape[1:]:
            raise CheckpointError("checkpoint's image pool does not hold images of this size")
        self._buffer = images.to(self._buffer.device)
        self._start, self._end = 0, len(images)

    def _move(self, *, room: int) -> None:
        """Move the images that stay once `room` more are added to the front of a buffer of twice the size needed then."""
        kept = self.images[-(self._limit - room) :] if room < self._limit else self.images[:0]
        self._buffer = self._buffer.new_empty(2 * (len(kept) + room), *self._buffer.shape[1:])
        self._buffer[: len(kept)] = kept
        self._start, self._end = 0, len(kept)


class FeatureBank(nn.Module):
    """Features of two views of the last `size` images, first in, first out; written one batch at a time.

    `rng`, on the CPU, draws the rows to recall; its state is saved with the features.
    """

    def __init__(self, *, size: int, dim: int, rng: torch.Generator) -> None:
        super().__init__()
        self._rng = rng
        self.register_buffer("features", torch.zeros(size, 2, dim))
        self.features: Tensor
        self.num_written = 0

    @property
    def num_bytes(self) -> int:
        return self.features.numel() * self.features.element_size()

    def add(self, local: Tensor, global_: Tensor) -> None:
        """Remember a batch's features, [B, d] each; `size` is a multiple of B."""
        start = self.num_written % len(self.features)
        self.features[start : start + len(local)] = torch.stack([local, global_], dim=1).detach()
        self.num_written += len(local)

    def draw(self, number: int) -> tuple[Tensor, Tensor]:
        """Up to `number` different rows -> local and global features, [n, d] each; none before the first batch."""
        filled = min(self.num_written, len(self.features))
        rows = torch.randperm(filled, generator=self._rng)[:number]
        chosen = self.features[rows.to(self.features.device)]
        return chosen[:, 0], chosen[:, 1]

    def get_extra_state(self) -> dict[str, Any]:
        return {"num_written": self.num_written, "rng": self._rng.get_state()}

    def set_extra_state(self, state: dict[str, Any]) -> None:
        self.num_written = state["num_written"]
        self._rng.set_state(state["rng"].cpu())


class StatisticsMemory(nn.Module):
    """Running mean of the batch-norm statistics of earlier turns, so that a single batch need not match the teacher's on its own.

    `sizes`: channels of each layer. `momentum`: weight of the running mean in what is compared, and how much of it is kept at each
    turn. FastDFKD (Fang et al. 2022, arXiv:2112.06253) and NAYER (Tran et al. 2024, arXiv:2310.00258) use 0.9.
    """

    def __init__(self, sizes: Sequence[int], *, momentum: float) -> None:
        super().__init__()
        self._sizes, self._momentum = list(sizes), momentum
        self.register_buffer("mean", torch.zeros(sum(sizes)))
        self.register_buffer("var", torch.zeros(sum(sizes)))
        self.mean: Tensor
        self.var: Tensor
        self.num_turns = 0

    def blended(self, observed: Sequence[ChannelStatistics | None]) -> Sequence[ChannelStatistics | None]:
        """`observed` blended with earlier turns; unchanged before the end of the first turn. Differentiable in `observed`."""
        if not self.num_turns:
            return observed
        old = self._momentum
        kept = zip(self.mean.split(self._sizes), self.var.split(self._sizes), strict=True)
        return [
            seen and ChannelStatistics(old * mean + (1 - old) * seen.mean, old * var + (1 - old) * seen.var)
            for seen, (mean, var) in zip(observed, kept, strict=True)
        ]

    @torch.no_grad()
    def keep(self, observed: Sequence[ChannelStatistics | None]) -> None:
        """Add the statistics of a turn's last batch."""
        share = 1 - self._momentum if self.num_turns else 1.0
        kept = zip(self.mean.split(self._sizes), self.var.split(self._sizes), strict=True)
        for seen, (mean, var) in zip(observed, kept, strict=True):
            if seen is not None:
                mean.lerp_(seen.mean, share)
                var.lerp_(seen.var, share)
        self.num_turns += 1

    def get_extra_state(self) -> dict[str, Any]:
        return {"num_turns": self.num_turns}

    def set_extra_state(self, state: dict[str, Any]) -> None:
        self.num_turns = state["num_turns"]


def num_bytes(module: nn.Module) -> int:
    """Size in bytes of a module's parameters and buffers."""
    return sum(tensor.numel() * tensor.element_size() for tensor in (*module.parameters(), *module.buffers()))
