import math

import pytest
import torch

from cpsc.config import StudentConfig
from cpsc.losses.self_paced import self_paced_weights
from cpsc.schedule import student_pace

LOSSES = torch.tensor([0.0, 0.5, 2.0, 2.35, 7.0, 500.0], dtype=torch.float64)


def test_the_weights_are_the_papers_formula() -> None:
    pace = 2.35
    expected = [(1 + math.exp(-pace)) / (1 + math.exp(loss - pace)) for loss in LOSSES.tolist()]
    assert self_paced_weights(LOSSES, pace=pace).tolist() == pytest.approx(expected, rel=1e-12)
    assert self_paced_weights(LOSSES, pace=pace)[0] == 1
    assert self_paced_weights(LOSSES, pace=pace)[3] == pytest.approx((1 + math.exp(-pace)) / 2)


@pytest.mark.parametrize("pace", [0.0, 1.0, 2.35])
def test_each_weight_is_what_the_logarithmic_regulariser_makes_best(pace: float) -> None:
    grid = torch.linspace(1e-6, 1 + math.exp(-pace) - 1e-6, 400_001, dtype=torch.float64)
    rest = 1 + math.exp(-pace) - grid
    regulariser = rest * rest.log() + grid * grid.log() - pace * grid
    for loss in (0.1, 1.0, 4.0):
        (weight,) = self_paced_weights(torch.tensor([loss], dtype=torch.float64), pace=pace).tolist()
        assert grid[(grid * loss + regulariser).argmin()].item() == pytest.approx(weight, abs=1e-5)


def test_they_carry_no_graph_and_stay_finite_for_any_loss() -> None:
    losses = torch.tensor([0.0, 1e4, 3e38], requires_grad=True)
    weights = self_paced_weights(losses, pace=1e6)
    assert not weights.requires_grad
    assert weights.tolist() == [1.0, 1.0, 0.0]


def test_the_pace_grows_with_every_step() -> None:
    config = StudentConfig(self_paced=True, pace=2.0, pace_growth=0.25)
    assert [student_pace(config, step=step) for step in (0, 1, 10)] == [2.0, 2.25, 4.5]
