import math

import pytest
import torch

from cpsc.losses.label import double_softmax_cross_entropy, label_cross_entropy

FLOORS = {10: 1.4612, 100: 3.6222, 200: 4.3069}


def test_cross_entropy_is_the_value_worked_out_by_hand_per_sample() -> None:
    logits = torch.tensor([[math.log(3.0), 0.0], [0.0, 0.0]])
    assert label_cross_entropy(logits, torch.tensor([1, 0])).tolist() == pytest.approx([math.log(4.0), math.log(2.0)])


def test_cross_entropy_ignores_a_constant_added_to_the_logits_and_vanishes_on_confident_hits() -> None:
    logits, labels = torch.tensor([[40.0, 0.0, 0.0]]), torch.tensor([0])
    assert label_cross_entropy(logits, labels).item() == pytest.approx(0.0, abs=1e-6)
    logits = torch.tensor([[1.0, -2.0, 0.5]])
    torch.testing.assert_close(label_cross_entropy(logits + 7.0, labels), label_cross_entropy(logits, labels))


@pytest.mark.parametrize(("num_classes", "floor"), FLOORS.items())
def test_the_double_softmax_reaches_its_floor_on_confident_hits_and_never_falls_below(num_classes: int, floor: float) -> None:
    labels = torch.arange(num_classes)
    confident = 1000.0 * torch.eye(num_classes)
    reached = double_softmax_cross_entropy(confident, labels)
    assert reached.tolist() == pytest.approx([math.log(math.e + num_classes - 1) - 1] * num_classes, abs=1e-4)
    assert reached[0].item() == pytest.approx(floor, abs=1e-4)
    for scale in (0.1, 1.0, 10.0, 1000.0):
        logits = scale * torch.randn(64, num_classes, generator=torch.Generator().manual_seed(0))
        assert double_softmax_cross_entropy(logits, logits.argmax(dim=1)).min() >= floor - 1e-4


@pytest.mark.parametrize("loss", [label_cross_entropy, double_softmax_cross_entropy])
def test_both_forms_give_the_logarithm_of_the_class_count_for_a_uniform_prediction(loss) -> None:
    assert loss(torch.zeros(2, 10), torch.tensor([3, 9])).tolist() == pytest.approx([math.log(10)] * 2)


def test_the_double_softmax_hardly_pushes_on_confident_mistakes_where_cross_entropy_does() -> None:
    gradients = []
    for loss in (label_cross_entropy, double_softmax_cross_entropy):
        logits = torch.tensor([[8.0, 0.0, 0.0, 0.0]], requires_grad=True)
        loss(logits, torch.tensor([1])).sum().backward()
        gradients.append(logits.grad.abs().max().item())
    assert gradients[0] > 0.9
    assert gradients[1] < 0.01
