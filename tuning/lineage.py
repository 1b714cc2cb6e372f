"""Lineage of a trial of a population: whose state it goes back to, and the values that each stretch of it was trained with.

Population based training (Jaderberg et al. 2017, arXiv:1711.09846) lets a trial take over another's state, and go on from there
with other values: its student is a function of the whole schedule, not of the values that the trial began with.
"""

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

Point = Mapping[str, Any]
SCHEDULED = "pbt/"
"""Before the path of a parameter that may change while training: its value in an epoch."""


class Segment(NamedTuple):
    """From the epoch behind `after` on a trial is trained with `point`, by dotted path."""

    after: int
    point: Point


class Exploit(NamedTuple):
    """A trial's taking over of the state that the trial `donor` had after `epoch`; it goes on with `point`."""

    epoch: int
    donor: int
    point: Point


class Stretch(NamedTuple):
    """The epochs of the trial `number` behind `after`, up to `until`, which another's state goes back to."""

    number: int
    after: int
    until: int
    point: Point

    @property
    def epochs(self) -> str:
        """Which they are, in words."""
        first = self.after + 1
        return f"epoch {first}" if first == self.until else f"epochs {first} to {self.until}"


def stretches(number: int, *, until: int, points: Mapping[int, Point], exploits: Mapping[int, Sequence[Exploit]]) -> list[Stretch]:
    """What the state of the trial `number` after the epoch `until` goes back to, the first epochs first.

    `points`: what each trial began with; `exploits`: of each trial that has some, in their order.
    """
    taken = next((exploit for exploit in reversed(exploits.get(number, ())) if exploit.epoch < until), None)
    if taken is None:
        return [Stretch(number, 0, until, points[number])]
    before = stretches(taken.donor, until=taken.epoch, points=points, exploits=exploits)
    return [*before, Stretch(number, taken.epoch, until, taken.point)]


def schedule_of(lineage: Sequence[Stretch]) -> tuple[Segment, ...]:
    """The values along a lineage."""
    return tuple(Segment(stretch.after, stretch.point) for stretch in lineage)


def lineage_words(lineage: Sequence[Stretch]) -> str:
    """Which trials' epochs a state goes back to."""
    return ", ".join(f"trial {stretch.number} in {stretch.epochs}" for stretch in lineage)
