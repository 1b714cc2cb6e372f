"""Marks: which questions a student has answered as the teacher does, of those that it is chosen by; what tells two apart."""

import base64
import binascii
import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

DISTINCT = 1.96
"""Of a normal distribution, both tails beyond it hold 5 %."""


@dataclass(frozen=True)
class Marks:
    """One bit a question in `right`, the first question's the lowest; `sizes`: how many of each source, the probe set's first.

    `own`: the source whose images the student's own generator has made, which do not count.
    """

    right: int
    sizes: tuple[int, ...]
    own: int | None = None

    @classmethod
    def of(cls, right: Sequence[bool], sizes: Sequence[int], own: int | None = None) -> "Marks":
        """Of answers that are right or not, in the order of their sources."""
        return cls(sum(1 << place for place, is_right in enumerate(right) if is_right), tuple(sizes), own)

    def to_text(self) -> str:
        """For a record: ``500.250.250:2:...``, sizes, own source, bits in base64."""
        bits = self.right.to_bytes((sum(self.sizes) + 7) // 8, "little")
        own = "" if self.own is None else str(self.own)
        return f"{'.'.join(map(str, self.sizes))}:{own}:{base64.b64encode(bits).decode()}"

    @classmethod
    def parse(cls, text: str) -> "Marks | None":
        """What `to_text` wrote; None where it is something else, as in a record of an earlier version."""
        try:
            sizes, own, bits = text.split(":")
            return cls(
                int.from_bytes(base64.b64decode(bits, validate=True), "little"),
                tuple(map(int, sizes.split("."))),
                int(own) if own else None,
            )
        except (ValueError, binascii.Error):
            return None


def is_distinct(one: Marks, other: Marks) -> bool:
    """Whether the difference of two students is more than chance: McNemar's test on the questions that only one of them has right.

    McNemar 1947, with Edwards' correction, at 5 %. Questions count as the score counts them: all examiners' together as much as
    the whole probe set, and those of a source that is either student's own not at all. Students of different exams cannot be told
    apart.
    """
    if one.sizes != other.sizes:
        return False
    difference = variance = 0.0
    weights = []
    for mask, weight in _sources(one, other):
        only_one, only_other = (one.right & ~other.right & mask).bit_count(), (other.right & ~one.right & mask).bit_count()
        difference += weight * (only_one - only_other)
        variance += weight**2 * (only_one + only_other)
        weights += [weight] if only_one + only_other else []
    if not variance:
        return False
    return abs(difference) - min(weights) > DISTINCT * math.sqrt(variance)


def _sources(one: Marks, other: Marks) -> Iterator[tuple[int, float]]:
    """The bits of each source that counts for both, and the weight of each of its questions."""
    counts = [0 if source and source in (one.own, other.own) else size for source, size in enumerate(one.sizes)]
    of_examiners = sum(counts[1:])
    start = 0
    for source, (size, counted) in enumerate(zip(one.sizes, counts, strict=True)):
        if counted:
            yield ((1 << size) - 1) << start, 1 / (of_examiners if source else counted)
        start += size
