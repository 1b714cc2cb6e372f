"""Measures how long a part of the work takes, on a GPU by the GPU's own clock."""

import time
from collections.abc import Iterator
from contextlib import contextmanager

import torch


class Stopwatch:
    """Total seconds between all pairs of `start` and `stop` on `device`.

    On a GPU a call returns as soon as its work is queued. There, events in the queue are timed, and nothing waits for them until
    `seconds` is read.
    """

    def __init__(self, device: torch.device) -> None:
        self._is_queued = device.type == "cuda"
        self._marks: list[torch.cuda.Event | float] = []

    def reset(self) -> None:
        """Forget everything that was timed."""
        self._marks = []

    def start(self) -> None:
        self._marks.append(self._mark())

    stop = start
    """Marks alternate: every second one ends the interval that the previous one began."""

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
        """Sum of all intervals; on a GPU this waits until their work is done."""
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
