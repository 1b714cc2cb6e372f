"""Interruption of a sweep: the error that names the way to go on, and the answer that Ctrl-C gets at once."""

import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from cpsc.errors import CpscError

STOPPING = (
    "stopping: trials go on from their last epoch at a resume; until workers and records are in order it takes about 20 s, "
    "Ctrl-C again stops at once"
)


class InterruptedSweepError(CpscError):
    """The sweep was stopped from outside and can be resumed. `by_signal`: by Ctrl-C or SIGTERM, not by a machine that is full."""

    def __init__(self, message: str, *, by_signal: bool) -> None:
        super().__init__(message)
        self.by_signal = by_signal


def is_main_thread() -> bool:
    """Whether signals can be handled here."""
    return threading.current_thread() is threading.main_thread()


class CtrlC:
    """Notes the first SIGINT that the work within hears, and says so at once; the work itself ends in its own time."""

    def __init__(self, say: Callable[[str], None]) -> None:
        self._say = say
        self.noted = False

    def listen(self) -> None:
        """From now on, when the work has its own handler in place, which is still called and decides what a second signal does."""
        if not is_main_thread():
            return
        inner = signal.getsignal(signal.SIGINT)

        def answer(signum: int, frame: Any) -> None:
            self.noted = True
            self._say(STOPPING)
            if callable(inner):
                inner(signum, frame)

        signal.signal(signal.SIGINT, answer)


@contextmanager
def answering_ctrl_c(say: Callable[[str], None]) -> Iterator[CtrlC]:
    """Yields what notes a signal from its `listen` on; afterwards the handler is the one that there was before."""
    if not is_main_thread():
        yield CtrlC(say)
        return
    before = signal.getsignal(signal.SIGINT)
    try:
        yield CtrlC(say)
    finally:
        signal.signal(signal.SIGINT, before)
