"""Where a debugged trial stops: once, before its first terms; and at whatever an epoch raises."""

import bdb
import pdb
import sys
from types import SimpleNamespace
from typing import Any

import pytest
from torch import nn

from cpsc.errors import DivergedError
from tuning.replay.debugger import attach_debugger


class Method(nn.Module):
    def generator_terms(self, view: str) -> list[str]:
        return ["generator", view]

    def student_terms(self, view: str) -> list[str]:
        return ["student", view]


def distiller(run_epoch: Any = lambda: {}) -> Any:
    return SimpleNamespace(method=Method(), run_epoch=run_epoch)


@pytest.mark.parametrize("first", ["generator_terms", "student_terms"])
def test_it_stops_once_with_the_first_view_at_hand(first: str, monkeypatch: pytest.MonkeyPatch) -> None:
    stops: list[Any] = []
    monkeypatch.setattr(sys, "breakpointhook", lambda: stops.append(sys._getframe(1).f_locals["view"]))
    debugged = distiller()
    attach_debugger(debugged)
    assert getattr(debugged.method, first)("a view") == [first.split("_")[0], "a view"]
    assert debugged.method.student_terms("another") == ["student", "another"]
    assert debugged.method.generator_terms("another") == ["generator", "another"]
    assert stops == ["a view"]


def raising(error: Exception) -> Any:
    def run_epoch() -> None:
        raise error

    return run_epoch


def test_a_divergence_opens_a_post_mortem_where_it_was_raised(monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[str] = []

    def post_mortem(traceback: Any) -> None:
        while traceback.tb_next:
            traceback = traceback.tb_next
        seen.append(traceback.tb_frame.f_code.co_name)

    monkeypatch.setattr(pdb, "post_mortem", post_mortem)
    debugged = distiller(raising(DivergedError("student term kl is not finite")))
    attach_debugger(debugged)
    with pytest.raises(DivergedError):
        debugged.run_epoch()
    assert seen == ["run_epoch"]


def test_leaving_the_debugger_is_no_error_to_look_at(monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[Any] = []
    monkeypatch.setattr(pdb, "post_mortem", seen.append)
    debugged = distiller(raising(bdb.BdbQuit()))
    attach_debugger(debugged)
    with pytest.raises(bdb.BdbQuit):
        debugged.run_epoch()
    assert seen == []
