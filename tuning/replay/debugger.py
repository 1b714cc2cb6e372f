"""A trial under Python's debugger: it stops at the first step, and where an epoch raises."""

import bdb
import pdb
import traceback
from collections.abc import Callable
from typing import Any

from cpsc.distiller import Distiller
from cpsc.measurement import Metrics
from cpsc.methods import BatchOutputs, Terms

TURNS = ("generator_terms", "student_terms")


def attach_debugger(distiller: Distiller) -> None:
    """Make `distiller` stop before its first terms are computed, and open a post-mortem if an epoch raises.

    The stop is Python's ``breakpoint()``, so PYTHONBREAKPOINT selects the debugger.
    """
    _stop_at_first_step(distiller.method)
    _open_post_mortem(distiller)


def _stop_at_first_step(method: Any) -> None:
    def stopping(terms: Callable[[BatchOutputs], Terms]) -> Callable[[BatchOutputs], Terms]:
        def first_step(view: BatchOutputs) -> Terms:
            for name in TURNS:
                delattr(method, name)  # restore the method's own: stop only once
            breakpoint()
            return terms(view)  # step into this: `view` has the outputs of teacher and student for the first batch

        return first_step

    for name in TURNS:
        setattr(method, name, stopping(getattr(method, name)))


def _open_post_mortem(distiller: Distiller) -> None:
    run_epoch = distiller.run_epoch

    def watched() -> Metrics:
        try:
            return run_epoch()
        except bdb.BdbQuit:
            raise
        except Exception as error:
            traceback.print_exception(error)
            pdb.post_mortem(error.__traceback__)
            raise

    distiller.run_epoch = watched  # type: ignore[method-assign]
