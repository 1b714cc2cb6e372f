"""Time that a part of the work takes, on a GPU by its own clock."""

import time
from collections.abc import Iterator
from contextlib import contextmanager

import torch


class Stopwatch:
    """Seconds between `start` and `stop`, all of them together, on `device`.

    Work on a GPU is only queued when a call returns, so what is timed there is when it passes marks in the queue: nothing waits
    until the seconds are asked for.
    """

    def __init__(self, device: torch.device) -> None:
        self._is_queued = device.type == "cuda"
        self._marks: list[torch.cuda.Event | float] = []

    def reset(self) -> None:
        """Forget all that was timed."""
        self._marks = []

    def start(self) -> None:
        self._marks.append(self._mark())

    stop = start
    """Every second mark ends what the one before began."""

    @contextmanager
    def running(self) -> Iterator[None]:
        """Time what runs inside the block."""
        self.start()
        try:
            yield
        finally:
            self.stop()

    @property
    def seconds(self) -> float:
        """Of all that has been started and stopped; on a GPU, once it has been done."""
        return sum(map(_between, self._marks[::2], self._marks[1::2]))

    def _mark(self) -> "torch.cuda.Event | float":
        if not self._is_queued:
            return time.perf_counter()
        event = torch.cuda.Event(enable_timing=True)
        event.record()
        return event


def _between(begun: "torch.cuda.Event | float", ended: "torch.cuda.Event | float") -> float:
    if isinstance(begun, float) or isinstance(ended, float):
        assert isinstance(begun, float)
        assert isinstance(ended, float)
        return ended - begun
    ended.synchronize()
    return begun.elapsed_time(ended) / 1000.0
