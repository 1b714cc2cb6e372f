import math

import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from cpsc.losses.disagreement import (
    CLAMP,
    TEMPERATURE,
    agreement_by_clamped_divergence,
    agreement_by_elementwise_divergence,
    agreement_by_jensen_shannon,
    agreement_by_unbounded_divergence,
)

CLAMPED = [agreement_by_clamped_divergence, agreement_by_elementwise_divergence]
ALL = [agreement_by_jensen_shannon, *CLAMPED, agreement_by_unbounded_divergence]


def logits(*, seed: int, rows: int = 6, classes: int = 5, scale: float = 4.0) -> Tensor:
    return torch.randn(rows, classes, generator=torch.Generator().manual_seed(seed), dtype=torch.float64) * scale


def slow_clamped(student: Tensor, teacher: Tensor) -> list[list[float]]:
    """The divergence of each sample and class, its arguments the published way round."""
    rows = []
    for s, t in zip(student, teacher, strict=True):
        p, q = (t / 3.0).softmax(0).tolist(), (s / 3.0).softmax(0).tolist()
        row = []
        for a, b in zip(p, q, strict=True):
            m, a, b = (min(max(x, 0.01), 0.99) for x in (0.5 * (a + b), a, b))
            row.append(0.5 * m * math.log(m / a) + 0.5 * m * math.log(m / b))
        rows.append(row)
    return rows


def test_the_published_temperature_and_clamps_are_used() -> None:
    assert (TEMPERATURE, CLAMP) == (3.0, (0.01, 0.99))


def test_jensen_shannon_equals_a_direct_sum_of_both_divergences_to_the_mean() -> None:
    student, teacher = logits(seed=0), logits(seed=1)
    p, q = (teacher / 3).softmax(1), (student / 3).softmax(1)
    m = (p + q) / 2
    divergence = 0.5 * (p * (p / m).log()).sum(1) + 0.5 * (q * (q / m).log()).sum(1)
    torch.testing.assert_close(agreement_by_jensen_shannon(student, teacher), 1.0 - divergence)


def test_jensen_shannon_runs_from_one_in_agreement_to_one_minus_log_two() -> None:
    first, second = torch.tensor([[900.0, 0.0, 0.0]]), torch.tensor([[0.0, 900.0, 0.0]])
    assert agreement_by_jensen_shannon(first, first).item() == pytest.approx(1.0)
    assert agreement_by_jensen_shannon(first, second).item() == pytest.approx(1.0 - math.log(2.0))
    torch.testing.assert_close(agreement_by_jensen_shannon(first, second), agreement_by_jensen_shannon(second, first))


def test_the_clamped_form_sums_over_classes_and_averages_over_the_batch() -> None:
    student, teacher = logits(seed=2), logits(seed=3)
    expected = 1.0 - sum(sum(row) for row in slow_clamped(student, teacher)) / 6
    assert 0.0 < expected < 1.0
    assert agreement_by_clamped_divergence(student, teacher).item() == pytest.approx(expected, rel=1e-9)


def test_the_elementwise_form_averages_over_classes_too() -> None:
    student, teacher = logits(seed=2), logits(seed=3)
    expected = 1.0 - sum(sum(row) for row in slow_clamped(student, teacher)) / (6 * 5)
    assert agreement_by_elementwise_divergence(student, teacher).item() == pytest.approx(expected, rel=1e-9)


def test_the_clamped_divergence_runs_from_the_mean_to_the_sides() -> None:
    # Few enough classes and flat enough logits that no probability meets a clamp.
    student, teacher = logits(seed=4, classes=3, scale=1.0), logits(seed=5, classes=3, scale=1.0)
    p, q = (teacher / 3).softmax(1), (student / 3).softmax(1)
    m = (p + q) / 2
    expected = 1.0 - 0.5 * (F.kl_div(p.log(), m, reduction="batchmean") + F.kl_div(q.log(), m, reduction="batchmean"))
    torch.testing.assert_close(agreement_by_clamped_divergence(student, teacher), expected)
    assert abs(expected - agreement_by_jensen_shannon(student, teacher).mean()) > 1e-7


@pytest.mark.parametrize("agreement", CLAMPED)
@pytest.mark.parametrize(("classes", "has_gradient"), [(10, True), (200, False)])
def test_with_many_classes_the_clamp_kills_the_gradient_of_a_flat_student(agreement, classes: int, has_gradient: bool) -> None:
    student = torch.zeros(32, classes, requires_grad=True)
    teacher = torch.randn(32, classes, generator=torch.Generator().manual_seed(0))
    agreement(student, teacher).backward()
    assert bool((student.grad != 0).any()) == has_gradient


def test_jensen_shannon_has_a_gradient_with_many_classes_too() -> None:
    student = torch.zeros(32, 200, requires_grad=True)
    teacher = torch.randn(32, 200, generator=torch.Generator().manual_seed(0))
    agreement_by_jensen_shannon(student, teacher).mean().backward()
    assert (student.grad != 0).all()


def test_beyond_a_divergence_of_one_the_clamped_form_stops_and_has_no_gradient() -> None:
    student = torch.tensor([[9.0, -9.0]], requires_grad=True)
    value = agreement_by_clamped_divergence(student, torch.tensor([[-9.0, 9.0]]))
    value.backward()
    assert value.item() == 0.0
    assert student.grad.abs().max() == 0.0


def test_beyond_a_divergence_of_one_the_unbounded_form_goes_on() -> None:
    student, teacher = torch.tensor([[5.0, -5.0]], requires_grad=True), torch.tensor([[-9.0, 9.0]])
    value = agreement_by_unbounded_divergence(student, teacher).mean()
    value.backward()
    assert value.item() < -1.0
    assert student.grad.abs().max() > 1e-3
    assert agreement_by_clamped_divergence(student, teacher).item() == 0.0


def test_below_a_divergence_of_zero_too_which_a_clamped_one_reversed_can_be() -> None:
    student = torch.zeros(32, 200, requires_grad=True)
    teacher = torch.randn(32, 200, generator=torch.Generator().manual_seed(0))
    value = agreement_by_unbounded_divergence(student, teacher).mean()
    value.backward()
    assert value.item() > 0.0
    assert agreement_by_clamped_divergence(student, teacher).item() == 1.0
    assert (student.grad != 0).any()


def test_the_unbounded_form_is_the_clamped_one_less_one_where_the_clamp_is_not_met() -> None:
    student, teacher = logits(seed=2), logits(seed=3)
    expected = agreement_by_clamped_divergence(student, teacher) - 1.0
    torch.testing.assert_close(agreement_by_unbounded_divergence(student, teacher).mean(), expected)


@pytest.mark.parametrize("agreement", ALL)
def test_both_sides_carry_gradients(agreement) -> None:
    student, teacher = logits(seed=6).requires_grad_(), logits(seed=7).requires_grad_()
    agreement(student, teacher).mean().backward()
    assert min(teacher.grad.abs().max(), student.grad.abs().max()) > 1e-4


@pytest.mark.parametrize("agreement", ALL)
def test_equal_networks_agree_fully_and_a_step_down_the_gradient_makes_them_differ(agreement) -> None:
    student, teacher = logits(seed=8, scale=2.0).requires_grad_(), logits(seed=9, scale=2.0)
    full = 0.0 if agreement is agreement_by_unbounded_divergence else 1.0
    assert agreement(teacher, teacher).mean().item() == pytest.approx(full, abs=1e-12)
    before = agreement(student, teacher).mean()
    before.backward()
    assert agreement(student.detach() - 0.5 * student.grad, teacher).mean() < before


@pytest.mark.parametrize("agreement", ALL)
def test_a_constant_added_to_all_logits_of_a_sample_does_not_matter(agreement) -> None:
    student, teacher = logits(seed=0), logits(seed=1)
    torch.testing.assert_close(agreement(student + 3.0, teacher - 20.0), agreement(student, teacher))


def test_jensen_shannon_stays_finite_between_saturated_networks() -> None:
    student = torch.tensor([[0.0, 5e3]], requires_grad=True)
    value = agreement_by_jensen_shannon(student, torch.tensor([[5e3, 0.0]]))
    value.sum().backward()
    assert value.isfinite().all()
    assert student.grad.isfinite().all()
