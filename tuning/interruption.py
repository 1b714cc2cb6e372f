"""Interruption of a sweep: the error that says how to resume, and the immediate answer to Ctrl-C."""

import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from cpsc.errors import CpscError

STOPPING = (
    "stopping: this takes about 20 s, until workers have ended and everything is recorded; a resume continues trials from their "
    "last epoch; press Ctrl-C again to stop at once"
)


class InterruptedSweepError(CpscError):
    """The sweep was stopped and can be resumed. `by_signal`: by Ctrl-C or SIGTERM, and not, for example, by a full disk."""

    def __init__(self, message: str, *, by_signal: bool) -> None:
        super().__init__(message)
        self.by_signal = by_signal


def is_main_thread() -> bool:
    """Whether this is the main thread, the only one that can handle signals."""
    return threading.current_thread() is threading.main_thread()


class CtrlC:
    """Notes a SIGINT during the work and says so at once; the work itself takes its time to stop."""

    def __init__(self, say: Callable[[str], None]) -> None:
        self._say = say
        self.noted = False

    def listen(self) -> None:
        """Start listening, once the work has set its own handler, which is still called and decides about a second signal."""
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
    """Yields a `CtrlC`, which notes signals once its `listen` was called; the previous handler is restored afterwards."""
    if not is_main_thread():
        yield CtrlC(say)
        return
    before = signal.getsignal(signal.SIGINT)
    try:
        yield CtrlC(say)
    finally:
        signal.signal(signal.SIGINT, before)
