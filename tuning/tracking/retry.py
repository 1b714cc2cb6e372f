"""Retries of requests that a tracking server does not answer, or answers with something invalid."""

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
"""A server that has not answered for longer than this at a sweep's end is not waited for; enough for one that restarts."""
FIRST_PAUSE_S = 0.1
RETRY_S = 2.0
"""The longest pause between two attempts, unless the server asks for a longer one."""
MAX_WISH_S = 10.0
"""Longest pause that is granted to a server that asks for one, so that records do not arrive hours late."""
SAID_AFTER = 3
"""Failures in a row before a warning: one may be a closed idle connection, two are chance if a server fails one time in ten."""


class Patience:
    """Repeats a call until it is answered. Gives up `limit_s` after the first of several failures in a row.

    A repeated call may already have been carried out, so only pass calls that are safe to repeat.
    """

    def __init__(self, limit_s: float = math.inf, *, about: str = "") -> None:
        self.limit_s = limit_s
        """Seconds before giving up; another thread may lower it at any time."""
        self.waited_s = 0.0
        self.is_spent = False
        """Whether a call was given up on."""
        self._about = about
        self._num_failures = 0
        self._failing_since = 0.0

    def ask(self, call: Callable[Arguments, Answer], *arguments: Arguments.args, **named: Arguments.kwargs) -> Answer:
        """Call until answered -> what `call` returns. Raises a final refusal, or the last failure once the patience is spent."""
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
        """Sleep, and count the time as waiting instead of work."""
        time.sleep(seconds)
        self.waited_s += seconds

    def pause(self) -> None:
        """Give a server time to finish what it may still be working on."""
        self.wait(RETRY_S)

    def _note(self, error: Exception) -> None:
        self._num_failures += 1
        if self._num_failures == 1:
            self._failing_since = time.monotonic()
        if self._num_failures == SAID_AFTER and self._about:
            logger.warning("%s: %s", self._about, reason(error))

    def _pause_s(self) -> float:
        return float(min(RETRY_S, FIRST_PAUSE_S * 2 ** min(self._num_failures - 1, 10)))
