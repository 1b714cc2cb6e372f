"""Time left, estimated from the recent speed: one rule for bars and logs, in words that a user can plan by."""

import bisect

MINUTE_S, HOUR_S, DAY_S = 60.0, 3600.0, 86400.0
WORTH_MINUTES_S = 90.0
RECENT = 0.5
"""Speed is measured over this last part of the time so far: a warm-up or an earlier load is soon forgotten."""
MAX_SAMPLES = 512


class Pace:
    """Speed of countable work. Times are in seconds of any monotonic clock."""

    def __init__(self, total: float, now: float, *, done: float = 0.0) -> None:
        """`done`: units that were done earlier, outside this measurement."""
        self._total = total
        self._samples = [(now, done)]

    def advance(self, done: float, now: float) -> None:
        """Note that `done` units are done at time `now`."""
        samples = self._samples
        # A bar reads from its own thread, so the list is replaced, not changed. When it is long, every second sample is dropped.
        self._samples = [*(samples[::2] if len(samples) >= MAX_SAMPLES else samples), (now, done)]

    def left_s(self, now: float) -> float | None:
        """Seconds left, which shrink between two advances; None if nothing has been done yet."""
        samples = self._samples
        last, done = samples[-1]
        half = last - RECENT * (last - samples[0][0])
        first, before = samples[bisect.bisect_right(samples, half, key=lambda sample: sample[0]) - 1]
        if done <= before:
            return None
        return max(0.0, (self._total - done) * (last - first) / (done - before) - (now - last))


def in_words(seconds: float) -> str:
    """A duration in words: ``45 s``, ``12 min``, ``3 h 20 min``, ``2 days 4 h``."""
    if seconds < WORTH_MINUTES_S:
        return f"{seconds:.0f} s"
    minutes = round(seconds / MINUTE_S)
    if minutes < 2 * HOUR_S / MINUTE_S:
        return f"{minutes} min"
    hours, minutes = divmod(minutes, 60)
    if seconds < 2 * DAY_S:
        return f"{hours} h {minutes} min"
    return f"{hours // 24} days {hours % 24} h"


def words_left(seconds: float | None) -> str:
    """``about 12 min left``, or that it is not known yet."""
    return "time left not known yet" if seconds is None else f"about {in_words(seconds)} left"
