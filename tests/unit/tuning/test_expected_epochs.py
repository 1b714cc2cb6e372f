"""How many epochs ASHA is expected to leave: by hand, and against the scheduler itself."""

import random
from types import SimpleNamespace

import pytest

from tuning.search.asha import ResumableAsha
from tuning.search.expected_epochs import expected_epochs
from tuning.study.config import PruneConfig

STOP = ResumableAsha.STOP


def run_epochs(num_trials: int, epochs: int, prune: PruneConfig, seed: int, *, keeps_rank: bool) -> int:
    """Epochs that the scheduler leaves to trials, one after another, whose values are drawn once, or anew at each epoch."""
    draw, scheduler, run = random.Random(seed), ResumableAsha(prune, epochs=epochs, metric="value"), 0
    for number in range(num_trials):
        trial = SimpleNamespace(config={"number": number})
        scheduler.on_trial_add(None, trial)  # type: ignore[arg-type]
        value = draw.random()
        for epoch in range(1, epochs + 1):
            run += 1
            value = value if keeps_rank else draw.random()
            if scheduler.on_trial_result(None, trial, {"epoch": epoch, "value": value}) == STOP:  # type: ignore[arg-type]
                break
    return run


@pytest.mark.parametrize(
    ("num_trials", "rungs", "expected"),
    [
        (4, [], 36.0),  # nobody is stopped
        (1, [1, 3], 9.0),  # the first has nothing to be compared with
        (2, [1], 1 + 8 + 1 + 8 / 2),  # the second goes on where it is the better one
        (3, [1], 3 * 1 + 8 * (1 + 1 / 2 + (1 + 1 / 3) / 3)),
    ],
)
def test_by_hand(num_trials: int, rungs: list[int], expected: float) -> None:
    assert expected_epochs(num_trials, epochs=9, rungs=rungs, reduction_factor=3) == pytest.approx(expected)


@pytest.mark.parametrize(("num_trials", "epochs", "factor"), [(16, 9, 3.0), (40, 27, 3.0), (12, 8, 2.0)])
def test_the_scheduler_leaves_about_as_many_and_more_where_trials_keep_their_rank(
    num_trials: int, epochs: int, factor: float
) -> None:
    prune = PruneConfig(reduction_factor=factor)
    rungs = ResumableAsha(prune, epochs=epochs, metric="value").rungs
    expected = expected_epochs(num_trials, epochs=epochs, rungs=rungs, reduction_factor=factor)
    drawn, kept = (
        sum(run_epochs(num_trials, epochs, prune, seed, keeps_rank=keeps_rank) for seed in range(100)) / 100
        for keeps_rank in (False, True)
    )
    assert drawn == pytest.approx(expected, rel=0.06)
    assert expected < kept < 1.6 * expected
