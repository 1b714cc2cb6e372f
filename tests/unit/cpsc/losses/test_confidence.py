import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from cpsc.losses.confidence import class_imbalance, negative_activation, one_hot_loss


def logits(*, seed: int, rows: int = 6, classes: int = 5) -> torch.Tensor:
    return torch.randn(rows, classes, generator=torch.Generator().manual_seed(seed), dtype=torch.float64) * 2


def test_the_one_hot_loss_is_the_negative_logarithm_of_the_largest_probability_per_sample() -> None:
    values = one_hot_loss(torch.tensor([[math.log(3.0), 0.0], [0.0, math.log(4.0)], [1.0, 1.0]]))
    assert values.tolist() == pytest.approx([math.log(4 / 3), math.log(5 / 4), math.log(2.0)])


def test_a_step_against_the_one_hot_losss_gradient_makes_the_teacher_more_confident() -> None:
    values = logits(seed=0).requires_grad_()
    one_hot_loss(values).sum().backward()
    torch.testing.assert_close(values.grad, values.softmax(1).detach() - torch.eye(5, dtype=torch.float64)[values.argmax(1)])


@pytest.mark.parametrize(("base", "expected"), [(math.e, -math.log(10)), (10.0, -1.0)])
def test_balance_is_least_where_the_batch_asks_for_all_classes_alike(base: float, expected: float) -> None:
    assert class_imbalance(torch.zeros(3, 10), base=base).item() == pytest.approx(expected)
    assert class_imbalance(50.0 * torch.eye(10), base=base).item() == pytest.approx(expected, rel=1e-5)


def test_balance_is_zero_where_all_images_are_surely_of_one_class() -> None:
    values = torch.zeros(4, 10)
    values[:, 3] = 200.0
    assert class_imbalance(values).item() == pytest.approx(0.0, abs=1e-6)


def test_balance_is_the_sum_of_p_log_p_of_the_mean_probability_worked_out_by_hand() -> None:
    batch = torch.tensor([[0.75, 0.25], [0.5, 0.5]]).log()
    expected = 0.625 * math.log(0.625) + 0.375 * math.log(0.375)
    assert class_imbalance(batch).item() == pytest.approx(expected)
    assert class_imbalance(batch, base=10.0).item() == pytest.approx(expected / math.log(10))


def test_the_toolboxs_weighted_balance_is_nine_times_the_original() -> None:
    batch = logits(seed=1)
    ratio = 20 * class_imbalance(batch) / (5 * class_imbalance(batch, base=10.0))
    assert ratio.item() == pytest.approx(9.21, abs=0.01)


@pytest.mark.parametrize("base", [math.e, 10.0])
def test_balance_and_its_gradient_are_finite_where_a_class_has_probability_zero(base: float) -> None:
    batch = torch.tensor([[0.0, -1e4, 500.0], [0.0, -1e4, 300.0]], requires_grad=True)
    assert (batch.softmax(1).mean(0) == 0).sum() == 2
    value = class_imbalance(batch, base=base)
    value.backward()
    assert value.isfinite()
    assert batch.grad.isfinite().all()


def test_a_step_against_the_balances_gradient_makes_the_batch_more_balanced() -> None:
    batch = logits(seed=2).requires_grad_()
    class_imbalance(batch).backward()

    def entropy(values: torch.Tensor) -> float:
        return torch.special.entr(values.softmax(1).mean(0)).sum().item()

    assert entropy(batch.detach() - 0.5 * batch.grad) > entropy(batch.detach())


def test_activation_is_minus_the_mean_magnitude_per_sample() -> None:
    assert negative_activation(torch.tensor([[1.0, -3.0], [0.0, 0.5]])).tolist() == pytest.approx([-2.0, -0.25])


@settings(deadline=None, max_examples=25)
@given(shift=st.floats(-50, 50))
def test_a_constant_added_to_a_samples_logits_changes_neither_confidence_nor_balance(shift: float) -> None:
    batch = logits(seed=3)
    torch.testing.assert_close(one_hot_loss(batch + shift), one_hot_loss(batch))
    torch.testing.assert_close(class_imbalance(batch + shift), class_imbalance(batch))


def test_balance_does_not_depend_on_the_order_of_the_batch() -> None:
    batch = logits(seed=4)
    torch.testing.assert_close(class_imbalance(batch[[3, 1, 0, 2, 5, 4]]), class_imbalance(batch))
