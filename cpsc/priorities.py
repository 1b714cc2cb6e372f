"""Prioritised replay: images are drawn from the pool more often the further the student was from its teacher on them."""

from collections.abc import Mapping
from typing import Any, NamedTuple

import torch
from torch import Tensor

from cpsc.errors import CheckpointError
from cpsc.memory import ImagePool

FLOOR = 1e-6
"""Added to every gap, in nats, so that images that the student has fully learnt are still drawn now and then."""
LARGEST_GAP = 1e9
"""A run with a larger gap, or NaN, has diverged; until that is noticed, its draws must still be valid rows of the pool."""
UNSEEN = float("inf")


class Drawn(NamedTuple):
    """`rows` of a pool, [B]; `weights` of each in the loss, [B], at most 1."""

    rows: Tensor
    weights: Tensor


class PrioritisedPool(ImagePool):
    """Draws image i of N with P(i) = p_i^a / sum_k p_k^a, where p_i is the gap last seen on it, plus a small constant.

    Schaul et al. 2016 (arXiv:1511.05952), eq. 1, a = `exponent`, with the gap between student and teacher in place of the
    temporal-difference error. An image that has not been drawn yet has the highest priority so far (alg. 1, line 6), even if that
    rises after the image was added, so that each image is seen soon.

    The gap alone is the priority. SSD-KD (Liu et al. 2024, arXiv:2406.07876) multiplies it by the weight that the image had when
    it was last drawn, (N P)^-b. For a constant gap that converges to its power 1 / (1 + b), which `exponent` sets directly; until
    then it alternates between too high and too low, and at b = 1 it never stops doing so.
    """

    def __init__(self, *, limit: int, channels: int, image_size: int, device: torch.device, exponent: float) -> None:
        super().__init__(limit=limit, channels=channels, image_size=image_size, device=device)
        self._exponent = exponent
        self._masses = torch.empty(0, device=device, dtype=torch.float32)  # p_i^a
        self._highest = torch.full((), FLOOR**exponent, device=device, dtype=torch.float32)

    @property
    def num_bytes(self) -> int:
        return super().num_bytes + self._masses.numel() * self._masses.element_size()

    @property
    def probabilities(self) -> Tensor:
        """Probability of each image to be drawn, [N], float64."""
        masses = self._known_masses().double()
        return masses / masses.sum()

    def add(self, images: Tensor) -> None:
        super().add(images)
        self._masses = torch.cat([self._masses, self._masses.new_full((len(images),), UNSEEN)])[-len(self) :]

    def draw(self, number: int, *, correction: float, rng: torch.Generator) -> Drawn:
        """Draw `number` images in random order, possibly with duplicates; `rng` is on the pool's device.

        The sum of priorities is cut into `number` equal ranges, and one image is drawn from each (app. B.2.1), so each image comes
        as often as its probability says, give or take one. Its weight is (N P)^-`correction`, divided by the largest of the batch
        (sec. 3.4); N and the sum cancel out.
        """
        masses = self._known_masses()
        ends = masses.cumsum(dim=0, dtype=torch.float64)
        ranges = torch.randperm(number, device=masses.device, generator=rng)  # else the batch would be in the order of the pool
        places = torch.rand(number, device=masses.device, dtype=torch.float64, generator=rng)
        points = (ranges + places) / number * ends[-1]
        rows = torch.searchsorted(ends, points, right=True).clamp(max=len(self) - 1)
        chosen = masses[rows]
        return Drawn(rows, (chosen.min() / chosen) ** correction)

    def see(self, rows: Tensor, gaps: Tensor) -> None:
        """Record the `gaps` [B], in nats, on the images of `rows` [B]; for a duplicate the larger gap counts."""
        masses = (gaps.float().nan_to_num().clamp(0, LARGEST_GAP) + FLOOR) ** self._exponent
        self._highest = torch.maximum(self._highest, masses.max())
        # A maximum does not depend on the order of a GPU's writes. Not in place, so that a saved state does not change.
        self._masses = self._masses.scatter_reduce(0, rows, masses, "amax", include_self=False)

    def state_dict(self) -> dict[str, Any]:
        return {**super().state_dict(), "masses": self._masses, "highest": self._highest}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Also accepts the state of a pool without priorities: its images then count as not drawn yet."""
        super().load_state_dict(state)
        unseen = self._masses.new_full((len(self),), UNSEEN)
        masses, highest = state.get("masses", unseen), state.get("highest", self._highest)
        if not _is_like(masses, unseen) or not _is_like(highest, self._highest):
            raise CheckpointError("checkpoint's image pool does not have a priority for each image")
        self._masses, self._highest = masses.to(unseen.device), highest.to(unseen.device)

    def _known_masses(self) -> Tensor:
        return torch.minimum(self._masses, self._highest)


def _is_like(found: object, expected: Tensor) -> bool:
    return isinstance(found, Tensor) and found.dtype == expected.dtype and found.shape == expected.shape
