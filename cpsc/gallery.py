"""Gallery of a run: images of each class at each of a few epochs, side by side."""

from collections.abc import Mapping

import torch
from torch import Tensor

from cpsc.errors import CheckpointError

MAX_COLUMNS = 12
"""As many as a person compares; those of a hundred classes take a few megabytes."""


class Gallery:
    """A column of images, one a class, for each of at most `MAX_COLUMNS` epochs. Of more, every other one goes.

    The first and the latest stay.
    """

    def __init__(self) -> None:
        self._columns: dict[int, Tensor] = {}

    @property
    def epochs(self) -> list[int]:
        """Those of the columns, from left to right."""
        return sorted(self._columns)

    def add(self, epoch: int, images: Tensor) -> None:
        """Take in `images`, uint8 [C, K, H, W], as they are made after `epoch`."""
        self._columns[epoch] = images.clone()  # they are a part of something larger, which would be saved whole
        if len(self._columns) > MAX_COLUMNS:
            for dropped in self.epochs[1:-1:2]:
                del self._columns[dropped]

    def grid(self) -> Tensor:
        """Every column -> uint8 [C, columns, K, H, W]."""
        return torch.stack([self._columns[epoch] for epoch in self.epochs], dim=1)

    def state_dict(self) -> dict[int, Tensor]:
        """The columns by epoch."""
        return dict(self._columns)

    def load_state_dict(self, state: Mapping[int, Tensor]) -> None:
        """Continue with the columns of `state`; CheckpointError where they are none."""
        is_sound = isinstance(state, Mapping) and all(
            type(epoch) is int and isinstance(column, Tensor) and column.ndim == 4 and column.dtype == torch.uint8
            for epoch, column in state.items()
        )
        if not is_sound or len({column.shape for column in state.values()}) > 1:
            raise CheckpointError("checkpoint's gallery holds no columns of images")
        self._columns = dict(state)
