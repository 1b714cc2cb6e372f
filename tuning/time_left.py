"""Time left of work: from how fast it went lately, one rule for bars and logs, and in words that one can plan by."""

import bisect

MINUTE_S, HOUR_S, DAY_S = 60.0, 3600.0, 86400.0
WORTH_MINUTES_S = 90.0
RECENT = 0.5
"""Share of the time so far, its last part, by which speed is judged: what warms up, or another load before, is soon forgotten."""
MAX_SAMPLES = 512


class Pace:
    """How fast counted work goes. Times in seconds, of any clock that does not go back."""

    def __init__(self, total: float, now: float, *, done: float = 0.0) -> None:
        """`done`: so much was done before, and has taken none of this time."""
        self._total = total
        self._samples = [(now, done)]

    def advance(self, done: float, now: float) -> None:
        """So much is done now."""
        samples = self._samples
        # A bar reads from a thread of its own: the list is replaced and not changed. Of many samples every second tells as much.
        self._samples = [*(samples[::2] if len(samples) >= MAX_SAMPLES else samples), (now, done)]

    def left_s(self, now: float) -> float | None:
        """Seconds left, which shrink between two advances; None where nothing has been done yet."""
        samples = self._samples
        last, done = samples[-1]
        half = last - RECENT * (last - samples[0][0])
        first, before = samples[bisect.bisect_right(samples, half, key=lambda sample: sample[0]) - 1]
        if done <= before:
            return None
        return max(0.0, (self._total - done) * (last - first) / (done - before) - (now - last))


def in_words(seconds: float) -> str:
    """As a person says it: ``45 s``, ``12 min``, ``3 h 20 min``, ``2 days 4 h``."""
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
    """``about 12 min left``; that nobody knows yet, where that is so."""
    return "time left not known yet" if seconds is None else f"about {in_words(seconds)} left"
