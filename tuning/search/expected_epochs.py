"""How many epochs ASHA leaves to run, as far as that is known before any trial has run."""

from collections.abc import Sequence


def expected_epochs(num_trials: int, *, epochs: int, rungs: Sequence[int], reduction_factor: float) -> float:
    """Epochs of all trials together, of `epochs` each, where a trial that comes to a rung is as likely as any to be the best there.

    Where the first point is hard to beat, fewer are run; where trials keep their rank from rung to rung, or the search gets better
    and better, more: by half, say.

    A trial goes on from a rung where it is no worse than the quantile 1 - 1/`reduction_factor` of those that came before it (Li et
    al. 2020, arXiv:1810.05934, as Ray stops them): the first ones have few to be compared with, and go on more often.
    """
    total, coming, last = 0.0, float(num_trials), 0
    for rung in rungs:
        total += coming * (rung - last)
        coming, last = _going_on(coming, reduction_factor), rung
    return total + coming * (epochs - last)


def _going_on(coming: float, factor: float) -> float:
    """How many of those that come to a rung one after another go on from it."""
    whole = int(coming)
    chances = [chance_to_go_on(before, factor) for before in range(whole + 1)]
    return sum(chances[:whole]) + (coming - whole) * chances[whole]


def chance_to_go_on(before: int, factor: float) -> float:
    """Of a trial that comes to a rung after `before` others that are like it.

    It is compared with the interpolated quantile 1 - 1/factor of theirs.
    """
    return 1.0 if before == 0 else (1.0 + (before - 1) / factor) / (before + 1)
