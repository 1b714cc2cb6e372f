"""How many epochs ASHA is expected to run, estimated before any trial has run."""

from collections.abc import Sequence


def expected_epochs(num_trials: int, *, epochs: int, rungs: Sequence[int], reduction_factor: float) -> float:
    """Expected total epochs of all trials, of up to `epochs` each, if any trial at a rung is equally likely to be the best there.

    If the first point is hard to beat, fewer epochs are run. If trials keep their rank from rung to rung, or the search keeps
    improving, more are run, by about half.

    A trial continues past a rung if it is no worse than the quantile 1 - 1/`reduction_factor` of the trials before it (Li et al.
    2020, arXiv:1810.05934, as implemented in Ray). The first trials have few others to compare with, so they continue more often.
    """
    total, coming, last = 0.0, float(num_trials), 0
    for rung in rungs:
        total += coming * (rung - last)
        coming, last = _going_on(coming, reduction_factor), rung
    return total + coming * (epochs - last)


def _going_on(coming: float, factor: float) -> float:
    """How many of `coming` trials that reach a rung one after another continue past it."""
    whole = int(coming)
    chances = [chance_to_go_on(before, factor) for before in range(whole + 1)]
    return sum(chances[:whole]) + (coming - whole) * chances[whole]


def chance_to_go_on(before: int, factor: float) -> float:
    """Probability that a trial continues past a rung which `before` equally good trials have reached earlier.

    It is compared with the interpolated quantile 1 - 1/factor of their values.
    """
    return 1.0 if before == 0 else (1.0 + (before - 1) / factor) / (before + 1)
