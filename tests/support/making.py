"""Making a teacher or a probe set: Ctrl-C at a line of the log, and a state that is saved at every step."""

import math

import pytest
from rich.console import Console

from tuning.display import Display
from tuning.trial import unfinished


class Interrupting(Display):
    """Ctrl-C when a line begins with `at`."""

    def __init__(self, console: Console, *, at: str) -> None:
        super().__init__(console=console)
        self._at = at

    def say(self, text: str) -> None:
        super().say(text)
        if text.startswith(self._at):
            raise KeyboardInterrupt


def keep_every_state(monkeypatch: pytest.MonkeyPatch) -> None:
    """Save the state at every step."""
    monkeypatch.setattr(unfinished, "KEPT_EVERY_S", 0.0)
    monkeypatch.setattr(unfinished, "SHARE_OF_SAVING", math.inf)
