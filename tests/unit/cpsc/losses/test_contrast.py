import math

import pytest
import torch

from cpsc.losses.contrast import teacher_anchored_contrast, two_view_contrast

LABELS = torch.tensor([0, 1, 0, 2, 1, 0])


def slow_anchored(teacher, student, labels, temperature: float) -> list[float]:
    values = []
    for i in range(len(labels)):
        denominator = sum(math.exp(float(teacher[i] @ candidate) / temperature) for candidate in student)
        positives = [p for p in range(len(labels)) if labels[p] == labels[i]]
        logs = [math.log(math.exp(float(teacher[i] @ student[p]) / temperature) / denominator) for p in positives]
        values.append(-sum(logs) / len(positives))
    return values


def slow_two_view(teacher, student, labels, temperature: float) -> list[float]:
    views, both = [*student, *teacher], [*labels.tolist(), *labels.tolist()]
    values = []
    for i, anchor in enumerate(views):
        others = [j for j in range(len(views)) if j != i]
        denominator = sum(math.exp(float(anchor @ views[j]) / temperature) for j in others)
        positives = [j for j in others if both[j] == both[i]]
        logs = [math.log(math.exp(float(anchor @ views[j]) / temperature) / denominator) for j in positives]
        values.append(-sum(logs) / len(positives))
    return values


@pytest.mark.parametrize("temperature", [0.07, 0.5])
@pytest.mark.parametrize(("contrast", "slow"), [(teacher_anchored_contrast, slow_anchored), (two_view_contrast, slow_two_view)])
def test_contrast_equals_a_direct_computation(contrast, slow, temperature: float, unit_features) -> None:
    teacher, student = unit_features(6, 4, seed=0), unit_features(6, 4, seed=1)
    values = contrast(teacher, student, LABELS, temperature=temperature)
    assert values.tolist() == pytest.approx(slow(teacher, student, LABELS, temperature), rel=1e-9)


def test_anchored_contrast_of_two_orthogonal_classes_is_the_value_worked_out_by_hand() -> None:
    features = torch.eye(2)
    values = teacher_anchored_contrast(features, features, torch.tensor([0, 1]), temperature=1.0)
    assert values.tolist() == pytest.approx([math.log(1 + math.exp(-1))] * 2)


def test_anchored_contrast_with_one_sample_per_class_is_info_nce_with_positives_on_the_diagonal(unit_features) -> None:
    features = unit_features(6, 4, seed=2)
    values = teacher_anchored_contrast(features, features, torch.arange(6), temperature=0.07)
    info_nce = torch.nn.functional.cross_entropy(features @ features.T / 0.07, torch.arange(6), reduction="none")
    torch.testing.assert_close(values, info_nce)


@pytest.mark.parametrize("contrast", [teacher_anchored_contrast, two_view_contrast])
def test_contrast_does_not_depend_on_the_order_of_the_batch(contrast, unit_features) -> None:
    teacher, student, order = unit_features(6, 4, seed=0), unit_features(6, 4, seed=1), torch.tensor([5, 3, 1, 0, 2, 4])
    plain = contrast(teacher, student, LABELS, temperature=0.1)
    permuted = contrast(teacher[order], student[order], LABELS[order], temperature=0.1)
    torch.testing.assert_close(permuted.mean(), plain.mean())


def test_the_teacher_is_the_anchor_so_that_swapping_the_networks_changes_eq_8(unit_features) -> None:
    teacher, student = unit_features(6, 4, seed=0), unit_features(6, 4, seed=1)
    forward = teacher_anchored_contrast(teacher, student, LABELS, temperature=0.1).mean()
    backward = teacher_anchored_contrast(student, teacher, LABELS, temperature=0.1).mean()
    assert abs(forward - backward) > 1e-2


def test_the_two_view_form_treats_both_networks_alike(unit_features) -> None:
    teacher, student = unit_features(6, 4, seed=0), unit_features(6, 4, seed=1)
    forward = two_view_contrast(teacher, student, LABELS, temperature=0.1)
    backward = two_view_contrast(student, teacher, LABELS, temperature=0.1)
    torch.testing.assert_close(forward.mean(), backward.mean())
    assert forward.shape == (12,)


def test_anchored_contrast_prefers_features_that_agree_with_the_labels() -> None:
    classes = torch.eye(3)[LABELS]
    agreeing = teacher_anchored_contrast(classes, classes, LABELS, temperature=0.1).mean()
    shifted = teacher_anchored_contrast(classes, classes.roll(1, dims=1), LABELS, temperature=0.1).mean()
    assert agreeing < shifted


@pytest.mark.parametrize("contrast", [teacher_anchored_contrast, two_view_contrast])
def test_contrast_sends_finite_gradients_to_both_networks(contrast, unit_features) -> None:
    teacher, student = unit_features(6, 4, seed=0).requires_grad_(), unit_features(6, 4, seed=1).requires_grad_()
    contrast(teacher, student, LABELS, temperature=0.07).mean().backward()
    for features in (teacher, student):
        assert features.grad.isfinite().all()
        assert features.grad.abs().max() > 1e-6
