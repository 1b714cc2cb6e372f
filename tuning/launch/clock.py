"""Clock of a launch: how long it was under way by its journal, from each attempt's start to its last sign of life."""

from tuning.launch.events import AttemptStart, Event, LaunchEnd, LaunchStart, TrialEnd

DRIVER_DIED = "the driver died"
"""Reason of a trial whose end nobody saw."""
AT_ONCE_S = 2.0
"""Earlier versions noted ends that a dead driver had not told at the time of the next start, so long before it at most."""


class Clock:
    """Hears the events of a journal in their order.

    `elapsed_s`: what all attempts took so far; `last_sign`: when a driver was last heard of; `remarks`: where time is odd.
    """

    def __init__(self) -> None:
        self.elapsed_s = 0.0
        self.last_sign = 0.0
        self.remarks: list[str] = []
        self._ends: list[tuple[float, float]] = []

    def advance(self, event: Event, line: int) -> None:
        """Take in the event of the journal's line `line`."""
        now = event.time
        if isinstance(event, LaunchStart | AttemptStart):
            self._count_ends([passed for time, passed in self._ends if now - time > AT_ONCE_S])
            self.last_sign = now  # the pause before it does not count
            return
        if is_afterword(event):
            return
        passed = now - self.last_sign
        if passed < 0:
            self.remarks.append(f"line {line} is {-passed:.0f} s older than what stands before it, as where a clock was set back")
        self.last_sign, passed = now, max(0.0, passed)
        if isinstance(event, TrialEnd):
            self._ends.append((now, passed))  # what follows tells whose words they are
            return
        self._count_ends([earlier for _, earlier in self._ends])
        self.elapsed_s += passed

    def finish(self) -> None:
        """Nothing follows."""
        self._count_ends([passed for _, passed in self._ends])

    def _count_ends(self, lengths: list[float]) -> None:
        self.elapsed_s += sum(lengths)
        self._ends = []


def is_afterword(event: Event) -> bool:
    """Whether this was noted later for a driver that had died: a launch that ends by itself tells what it took."""
    match event:
        case TrialEnd(reason=reason):
            return reason == DRIVER_DIED
        case LaunchEnd(metrics=metrics):
            return not metrics
    return False
