"""Measures what a sweep costs the process that drives it, without changing what it does."""

import threading
import time
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from typing import Any
from unittest import mock

Call = tuple[Any, str]
"""An owner, class or module, and the name of its function."""


@dataclass(frozen=True)
class Watched:
    """Functions and classes at which a sweep is observed."""

    on_the_loop: Mapping[str, tuple[type, tuple[str, ...]]]
    """What the driver's main thread does besides Ray's event loop: classes with their methods."""
    in_a_thread: Mapping[str, type]
    """What the driver does outside the main thread: classes of threads."""
    trial_start: Call
    trial_result: Call
    trial_end: Call
    delivered: Call
    """The call after which nothing is left to record."""


@dataclass
class SweepMeter:
    """Measures CPU time of this process, in total and by part, and wall time, from the first trial's start until all is recorded.

    All in seconds.
    """

    watched: Watched
    parts: dict[str, float] = field(default_factory=lambda: defaultdict(float))
    started_cpu: float = 0.0
    started_wall: float = 0.0
    total_s: float = 0.0
    wall_s: float = 0.0
    ends_s: list[float] = field(default_factory=list)
    """CPU time since the start at each trial's end."""
    results: int = 0

    @contextmanager
    def watching(self) -> Iterator[None]:
        """Measure the sweep that runs in this block."""
        watched = self.watched
        with ExitStack() as stack:
            for part, (owner, names) in watched.on_the_loop.items():
                for name in names:
                    stack.enter_context(mock.patch.object(owner, name, self._counted(part, getattr(owner, name))))
            for part, owner in watched.in_a_thread.items():
                stack.enter_context(mock.patch.object(owner, "run", self._counted(part, owner.run)))
            marks = (
                (watched.trial_start, self._note_start),
                (watched.trial_result, self._note_result),
                (watched.trial_end, self._note_end),
                (watched.delivered, self._note_delivered),
            )
            for (place, name), mark in marks:
                stack.enter_context(mock.patch.object(place, name, _after(getattr(place, name), mark)))
            yield

    def measured(self) -> dict[str, Any]:
        """The measurements as JSON-compatible values."""
        names = ("results", "total_s", "wall_s", "ends_s")
        return {name: getattr(self, name) for name in names} | {"parts": dict(self.parts)}

    def _counted(self, part: str, call: Callable[..., Any]) -> Callable[..., Any]:
        def counting(*arguments: Any, **named: Any) -> Any:
            started = time.thread_time()
            try:
                return call(*arguments, **named)
            finally:
                self.parts[part] += time.thread_time() - started

        return counting

    def _note_start(self) -> None:
        if self.started_cpu:
            return
        self.parts.clear()
        for part, owner in self.watched.in_a_thread.items():  # by now they have opened their files, which is one-off work
            self.parts[part] = -sum(_cpu_s(thread) for thread in threading.enumerate() if isinstance(thread, owner))
        self.started_cpu, self.started_wall = time.process_time(), time.monotonic()

    def _note_result(self) -> None:
        self.results += 1

    def _note_end(self) -> None:
        self.ends_s.append(time.process_time() - self.started_cpu)

    def _note_delivered(self) -> None:
        self.total_s, self.wall_s = time.process_time() - self.started_cpu, time.monotonic() - self.started_wall


def _cpu_s(thread: threading.Thread) -> float:
    assert thread.ident is not None
    return time.clock_gettime(time.pthread_getcpuclockid(thread.ident))


def _after(call: Callable[..., Any], mark: Callable[[], None]) -> Callable[..., Any]:
    def marking(*arguments: Any, **named: Any) -> Any:
        result = call(*arguments, **named)
        mark()
        return result

    return marking
