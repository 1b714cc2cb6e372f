"""Clock of a launch: how long it ran according to its journal, from each attempt's start to its last sign of life."""

from tuning.launch.events import AttemptStart, Event, LaunchEnd, LaunchStart, TrialEnd

DRIVER_DIED = "the driver died"
"""Reason for the end of a trial that the driver did not survive."""
AT_ONCE_S = 2.0
"""Earlier versions recorded ends that a dead driver had missed at the time of the next start, at most this long before it."""


class Clock:
    """Measures time from the events of a journal, in their order.

    `elapsed_s`: duration of all attempts so far; `last_sign`: time of a driver's last event; `remarks`: oddities in the times.
    """

    def __init__(self) -> None:
        self.elapsed_s = 0.0
        self.last_sign = 0.0
        self.remarks: list[str] = []
        self._ends: list[tuple[float, float]] = []

    def advance(self, event: Event, line: int) -> None:
        """Take in the event in line `line` of the journal."""
        now = event.time
        if isinstance(event, LaunchStart | AttemptStart):
            self._count_ends([passed for time, passed in self._ends if now - time > AT_ONCE_S])
            self.last_sign = now  # the pause before this attempt does not count
            return
        if is_afterword(event):
            return
        passed = now - self.last_sign
        if passed < 0:
            self.remarks.append(f"line {line} is {-passed:.0f} s older than the one before it, as if a clock was set back")
        self.last_sign, passed = now, max(0.0, passed)
        if isinstance(event, TrialEnd):
            self._ends.append((now, passed))  # the next events tell who recorded it
            return
        self._count_ends([earlier for _, earlier in self._ends])
        self.elapsed_s += passed

    def finish(self) -> None:
        """Note that no event follows."""
        self._count_ends([passed for _, passed in self._ends])

    def _count_ends(self, lengths: list[float]) -> None:
        self.elapsed_s += sum(lengths)
        self._ends = []


def is_afterword(event: Event) -> bool:
    """Whether this was recorded later for a driver that had died: a launch that ends by itself has metrics."""
    match event:
        case TrialEnd(reason=reason):
            return reason == DRIVER_DIED
        case LaunchEnd(metrics=metrics):
            return not metrics
    return False
