"""Retries of a request that a tracking server gives no answer to, or one that is none."""

import logging
import math
import time
from collections.abc import Callable
from typing import ParamSpec, TypeVar

from tuning.redaction import reason
from tuning.tracking.answers import retry_after_s
from tuning.tracking.client import FAILURES, checking_answer
from tuning.tracking.refusal import is_refusal

Arguments = ParamSpec("Arguments")
Answer = TypeVar("Answer")

logger = logging.getLogger(__name__)

PATIENCE_S = 20.0
"""A server that has been away for longer than this at a sweep's end is not waited for; one that restarts then is back by it."""
FIRST_PAUSE_S = 0.1
RETRY_S = 2.0
"""The longest pause between two attempts, unless the server asks for a longer one."""
MAX_WISH_S = 10.0
"""Of a server that asks for a pause of minutes, so much is granted: what it is told late must not be late for hours."""
SAID_AFTER = 3
"""Failures in a row: one is a connection closed for being idle, two are chance where a server fails once in ten times."""


class Patience:
    """Repeats a call until it is answered; `limit_s` after the first failure in a row it gives up, and counts from the next answer.

    Whatever it repeats may have been done already: only calls that are safe to repeat may be given to it.
    """

    def __init__(self, limit_s: float = math.inf, *, about: str = "") -> None:
        self.limit_s = limit_s
        """Another thread may lower it at any time."""
        self.waited_s = 0.0
        self.is_spent = False
        """Whether a call was given up."""
        self._about = about
        self._num_failures = 0
        self._failing_since = 0.0

    def ask(self, call: Callable[Arguments, Answer], *arguments: Arguments.args, **named: Arguments.kwargs) -> Answer:
        """What `call` returns. Raises what it is refused for good, and, once the patience is spent, its last failure."""
        while True:
            try:
                with checking_answer():
                    answer = call(*arguments, **named)
            except FAILURES as error:
                if is_refusal(error):
                    self._num_failures = 0
                    raise
                self._note(error)
                if time.monotonic() - self._failing_since > self.limit_s:
                    self.is_spent = True
                    raise
                self.wait(max(self._pause_s(), min(retry_after_s(error), MAX_WISH_S)))
            else:
                self._num_failures = 0
                return answer

    def wait(self, seconds: float) -> None:
        """Sleep: not work, and not counted as such."""
        time.sleep(seconds)
        self.waited_s += seconds

    def pause(self) -> None:
        """Let a server come to an end with what it may still be at work on."""
        self.wait(RETRY_S)

    def _note(self, error: Exception) -> None:
        self._num_failures += 1
        if self._num_failures == 1:
            self._failing_since = time.monotonic()
        if self._num_failures == SAID_AFTER and self._about:
            logger.warning("%s: %s", self._about, reason(error))

    def _pause_s(self) -> float:
        return float(min(RETRY_S, FIRST_PAUSE_S * 2 ** min(self._num_failures - 1, 10)))
