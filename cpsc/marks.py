"""Marks: on which of the images that a student is chosen by it agrees with the teacher; and a test whether two students differ."""

import base64
import binascii
import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

DISTINCT = 1.96
"""Quantile of the normal distribution: both tails beyond it together hold 5 %."""


@dataclass(frozen=True)
class Marks:
    """`right` has one bit per question, the first question's is the lowest. `sizes`: questions per source, the probe set first.

    `own`: the source whose images the student's own generator made; they do not count.
    """

    right: int
    sizes: tuple[int, ...]
    own: int | None = None

    @classmethod
    def of(cls, right: Sequence[bool], sizes: Sequence[int], own: int | None = None) -> "Marks":
        """Marks from a list of right and wrong answers, in the order of their sources."""
        return cls(sum(1 << place for place, is_right in enumerate(right) if is_right), tuple(sizes), own)

    def to_text(self) -> str:
        """Text for a record: ``500.250.250:2:...``, with sizes, own source and bits in base64."""
        bits = self.right.to_bytes((sum(self.sizes) + 7) // 8, "little")
        own = "" if self.own is None else str(self.own)
        return f"{'.'.join(map(str, self.sizes))}:{own}:{base64.b64encode(bits).decode()}"

    @classmethod
    def parse(cls, text: str) -> "Marks | None":
        """Read what `to_text` wrote; None if it is something else, as in a record of an earlier version."""
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
    """Whether two students differ by more than chance: McNemar's test on the questions that only one of them answered correctly.

    McNemar 1947, with Edwards' correction, at the 5 % level. Questions are weighted as in the score: those of all examiners
    together count as much as the whole probe set, and those of a source that is either student's own do not count. Students of
    different exams are never distinct.
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
