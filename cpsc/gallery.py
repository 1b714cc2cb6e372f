"""Gallery of a run: images of each class, side by side for a few epochs."""

from collections.abc import Mapping

import torch
from torch import Tensor

from cpsc.errors import CheckpointError

MAX_COLUMNS = 12
"""As many as a person can compare; for a hundred classes they take a few megabytes."""


class Gallery:
    """A column of images, one per class, for each of at most `MAX_COLUMNS` epochs.

    When there are more, every other column is dropped; the first and the latest stay.
    """

    def __init__(self) -> None:
        self._columns: dict[int, Tensor] = {}

    @property
    def epochs(self) -> list[int]:
        """Epochs of the columns, from left to right."""
        return sorted(self._columns)

    def add(self, epoch: int, images: Tensor) -> None:
        """Add `images`, uint8 [C, K, H, W], as generated after `epoch`."""
        self._columns[epoch] = images.clone()  # a view of a larger tensor would be saved with all of it
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
        """Continue with the columns of `state`; CheckpointError if it does not hold columns."""
        is_sound = isinstance(state, Mapping) and all(
            type(epoch) is int and isinstance(column, Tensor) and column.ndim == 4 and column.dtype == torch.uint8
            for epoch, column in state.items()
        )
        if not is_sound or len({column.shape for column in state.values()}) > 1:
            raise CheckpointError("checkpoint's gallery does not hold columns of images")
        self._columns = dict(state)
