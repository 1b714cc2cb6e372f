"""Lineage of a trial in a population: which trials its state comes from, and with which values each stretch was trained.

In population based training (Jaderberg et al. 2017, arXiv:1711.09846) a trial can take over another trial's state and continue
from there with other values: its student depends on the whole schedule, not only on the values that the trial began with.
"""

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

Point = Mapping[str, Any]
SCHEDULED = "pbt/"
"""Prefix of metrics that hold the value of a parameter in each epoch, where it may change during training."""


class Segment(NamedTuple):
    """A trial is trained with `point` (values by dotted path) after the epoch `after`."""

    after: int
    point: Point


class Exploit(NamedTuple):
    """A trial takes over the state that the trial `donor` had after `epoch`, and continues with `point`."""

    epoch: int
    donor: int
    point: Point


class Stretch(NamedTuple):
    """Epochs `after` + 1 to `until` of the trial `number`, as a part of a lineage, trained with `point`."""

    number: int
    after: int
    until: int
    point: Point

    @property
    def epochs(self) -> str:
        """The range of epochs in words."""
        first = self.after + 1
        return f"epoch {first}" if first == self.until else f"epochs {first} to {self.until}"


def stretches(number: int, *, until: int, points: Mapping[int, Point], exploits: Mapping[int, Sequence[Exploit]]) -> list[Stretch]:
    """The stretches that led to the state of the trial `number` after the epoch `until`, in the order of epochs.

    `points`: the values that each trial began with. `exploits`: those of each trial that has any, in the order of epochs.
    """
    taken = next((exploit for exploit in reversed(exploits.get(number, ())) if exploit.epoch < until), None)
    if taken is None:
        return [Stretch(number, 0, until, points[number])]
    before = stretches(taken.donor, until=taken.epoch, points=points, exploits=exploits)
    return [*before, Stretch(number, taken.epoch, until, taken.point)]


def schedule_of(lineage: Sequence[Stretch]) -> tuple[Segment, ...]:
    """The schedule of values along a lineage."""
    return tuple(Segment(stretch.after, stretch.point) for stretch in lineage)


def lineage_words(lineage: Sequence[Stretch]) -> str:
    """A lineage in words: trials and their epochs."""
    return ", ".join(f"trial {stretch.number} in {stretch.epochs}" for stretch in lineage)
