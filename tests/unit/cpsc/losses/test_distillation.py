import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from cpsc.losses.distillation import (
    NORM_FLOOR,
    decision_kl,
    distillation_kl,
    log_l2_distance,
    log_mse,
    mean_absolute_difference,
    mse,
)


def logits(*, seed: int, rows: int = 5, classes: int = 7) -> torch.Tensor:
    return torch.randn(rows, classes, generator=torch.Generator().manual_seed(seed), dtype=torch.float64) * 3


def test_kl_of_a_uniform_student_is_the_value_worked_out_by_hand() -> None:
    teacher = torch.tensor([[math.log(3.0), 0.0]])  # classes 3/4 and 1/4
    expected = 0.75 * math.log(1.5) + 0.25 * math.log(0.5)
    assert distillation_kl(torch.zeros(1, 2), teacher, temperature=1.0).tolist() == pytest.approx([expected])


def test_kl_equals_a_direct_sum_over_samples_and_classes() -> None:
    student, teacher, temperature = logits(seed=0), logits(seed=1), 2.5
    expected = []
    for s, t in zip(student, teacher, strict=True):
        p, q = (s / temperature).exp(), (t / temperature).exp()
        p, q = p / p.sum(), q / q.sum()
        expected.append(temperature**2 * sum(float(q[c] * (q[c].log() - p[c].log())) for c in range(len(s))))
    assert distillation_kl(student, teacher, temperature=temperature).tolist() == pytest.approx(expected, rel=1e-9)


def test_kl_summed_over_classes_is_class_count_times_the_elementwise_mean() -> None:
    student, teacher = logits(seed=0), logits(seed=1)
    elementwise = torch.nn.functional.kl_div(student.log_softmax(1), teacher.softmax(1), reduction="none")
    assert distillation_kl(student, teacher, temperature=1.0).mean().item() == pytest.approx(elementwise.mean().item() * 7)


@settings(deadline=None, max_examples=25)
@given(shift=st.floats(-50, 50), temperature=st.floats(0.5, 20))
def test_kl_ignores_a_constant_added_to_all_logits_of_a_sample(shift: float, temperature: float) -> None:
    student, teacher = logits(seed=2), logits(seed=3)
    plain = distillation_kl(student, teacher, temperature=temperature)
    shifted = distillation_kl(student + shift, teacher - shift, temperature=temperature)
    torch.testing.assert_close(shifted, plain, rtol=1e-7, atol=1e-9)


def test_kl_is_zero_for_equal_networks_and_positive_for_others() -> None:
    student, teacher = logits(seed=4), logits(seed=5)
    assert distillation_kl(student, student, temperature=3.0).abs().max() < 1e-12
    assert distillation_kl(student, teacher, temperature=3.0).min() > 0


def test_kl_is_not_symmetric() -> None:
    student, teacher = logits(seed=4), logits(seed=5)
    forward, backward = (distillation_kl(a, b, temperature=1.0).mean() for a, b in ((student, teacher), (teacher, student)))
    assert abs(forward - backward) > 1e-3


def test_gradient_of_the_kl_at_the_student_is_the_difference_of_the_softmaxes() -> None:
    student, teacher = logits(seed=6).requires_grad_(), logits(seed=7)
    distillation_kl(student, teacher, temperature=1.0).sum().backward()
    torch.testing.assert_close(student.grad, (student.softmax(1) - teacher.softmax(1)).detach())


def test_kl_sends_a_gradient_into_the_teacher_too() -> None:
    teacher = logits(seed=7).requires_grad_()
    distillation_kl(logits(seed=6), teacher, temperature=1.0).sum().backward()
    assert teacher.grad is not None
    assert teacher.grad.abs().max() > 1e-3


def test_kl_stays_finite_where_a_class_has_probability_zero() -> None:
    student = torch.tensor([[0.0, 300.0]], requires_grad=True)
    value = distillation_kl(student, torch.tensor([[300.0, 0.0]]), temperature=1.0)
    value.sum().backward()
    assert value.item() == pytest.approx(300.0)
    assert student.grad is not None
    assert student.grad.isfinite().all()


def test_log_l2_takes_one_norm_over_the_whole_batch() -> None:
    difference = torch.tensor([[3.0, 0.0], [0.0, 4.0]])
    assert log_l2_distance(torch.zeros(2, 2), difference).item() == pytest.approx(math.log(5.0))


def test_log_l2_is_half_the_logarithm_of_the_rescaled_mean_square() -> None:
    student, teacher = logits(seed=8), logits(seed=9)
    mean_square = (student - teacher).square().mean().item()
    assert log_l2_distance(student, teacher).item() == pytest.approx(0.5 * math.log(5 * 7 * mean_square))


def test_log_mse_has_twice_the_gradient_of_log_l2() -> None:
    gradients = []
    for distance in (log_l2_distance, log_mse):
        student = logits(seed=8).requires_grad_()
        distance(student, logits(seed=9)).backward()
        gradients.append(student.grad)
    torch.testing.assert_close(gradients[1], 2 * gradients[0])


@pytest.mark.parametrize("distance", [log_l2_distance, log_mse])
def test_logarithms_have_a_floor_and_a_finite_gradient_where_the_networks_agree(distance) -> None:
    student = logits(seed=1).float().requires_grad_()
    value = distance(student, student.detach().clone())
    value.backward()
    assert value.isfinite()
    assert torch.equal(student.grad, torch.zeros_like(student))


@pytest.mark.parametrize(("factor", "is_floored"), [(0.5, True), (2.0, False)])
def test_both_logarithms_are_floored_at_the_same_distance(factor: float, is_floored: bool) -> None:
    student = torch.zeros(4, 3, dtype=torch.float64)
    teacher = student.clone()
    teacher[1, 2] = factor * NORM_FLOOR
    log_norm = math.log(NORM_FLOOR if is_floored else factor * NORM_FLOOR)
    assert log_l2_distance(student, teacher).item() == pytest.approx(log_norm)
    assert log_mse(student, teacher).item() == pytest.approx(2 * log_norm - math.log(12))


def test_mse_averages_over_classes_and_keeps_the_samples_apart() -> None:
    teacher = torch.tensor([[1.0, 3.0], [0.0, 2.0]])
    assert mse(torch.zeros(2, 2), teacher).tolist() == pytest.approx([5.0, 2.0])


@pytest.mark.parametrize("distance", [log_l2_distance, log_mse, mse, mean_absolute_difference])
def test_distances_do_not_depend_on_the_order_of_the_batch(distance) -> None:
    student, teacher, order = logits(seed=2), logits(seed=3), torch.tensor([4, 2, 0, 1, 3])
    torch.testing.assert_close(distance(student[order], teacher[order]).mean(), distance(student, teacher).mean())


@pytest.mark.parametrize("distance", [log_l2_distance, log_mse, mse, mean_absolute_difference])
def test_distances_send_opposite_gradients_to_student_and_teacher(distance) -> None:
    student, teacher = logits(seed=2).requires_grad_(), logits(seed=3).requires_grad_()
    distance(student, teacher).mean().backward()
    assert student.grad.abs().max() > 0
    torch.testing.assert_close(student.grad, -teacher.grad)


def test_the_mean_absolute_difference_averages_over_classes_and_keeps_the_samples_apart() -> None:
    teacher = torch.tensor([[1.0, -3.0], [0.0, 2.0]])
    assert mean_absolute_difference(torch.zeros(2, 2), teacher).tolist() == pytest.approx([2.0, 1.0])


def test_the_mean_absolute_differences_gradient_does_not_fade_as_the_networks_come_close() -> None:
    for distance in (1e-3, 10.0):
        student = torch.full((1, 4), distance, requires_grad=True)
        mean_absolute_difference(student, torch.zeros(1, 4)).sum().backward()
        assert student.grad.tolist() == [[0.25] * 4]


def test_the_decision_kl_counts_only_samples_of_which_both_pick_the_same_class() -> None:
    student, teacher = logits(seed=10, rows=40, classes=3), logits(seed=11, rows=40, classes=3)
    agree = student.argmax(1) == teacher.argmax(1)
    assert 5 < agree.sum() < 35
    values = decision_kl(student, teacher)
    torch.testing.assert_close(values[agree], distillation_kl(student, teacher, temperature=1.0)[agree])
    assert torch.equal(values[~agree], torch.zeros_like(values[~agree]))
    assert values.shape == (40,)


def test_samples_of_which_the_networks_pick_different_classes_get_no_gradient_from_the_decision_kl() -> None:
    student = torch.tensor([[2.0, 0.0], [0.0, 2.0]], requires_grad=True)
    decision_kl(student, torch.tensor([[5.0, 0.0], [5.0, 0.0]])).sum().backward()
    assert student.grad[0].abs().max() > 0.01
    assert student.grad[1].abs().max() == 0.0
