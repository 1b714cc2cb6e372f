import math
from types import SimpleNamespace

import pytest
import torch
from torch import nn

from cpsc.errors import DataError
from cpsc.metrics import (
    EVALUATION_BATCH,
    accuracy,
    agreement,
    class_balance,
    evaluating,
    evaluation_batch,
    features_and_logits,
    mean_kl,
    predict,
)


@pytest.fixture
def network(teacher) -> nn.Module:
    return teacher.build(torch.device("cpu")).train()


def images(num: int) -> torch.Tensor:
    return torch.randn(num, 1, 8, 8, generator=torch.Generator().manual_seed(0))


def test_accuracy_is_the_share_of_rows_whose_largest_entry_is_at_the_label() -> None:
    logits = torch.tensor([[1.0, 2.0, 0.0], [5.0, 1.0, 0.0], [0.0, 0.0, -1.0], [0.0, 1.0, 9.0]])
    assert accuracy(logits, torch.tensor([1, 1, 0, 2])) == 0.75


def test_agreement_compares_the_chosen_classes_only() -> None:
    student = torch.tensor([[1.0, 0.0], [0.0, 1.0], [3.0, 2.0]])
    teacher = torch.tensor([[9.0, 8.0], [7.0, 1.0], [0.5, 0.1]])
    assert agreement(student, teacher) == pytest.approx(2 / 3)


def test_mean_kl_is_the_mean_over_images_of_the_teachers_divergence() -> None:
    teacher = torch.tensor([[math.log(3.0), 0.0], [0.0, 0.0]])
    expected = 0.5 * (0.75 * math.log(1.5) + 0.25 * math.log(0.5))
    assert mean_kl(torch.zeros(2, 2), teacher) == pytest.approx(expected, rel=1e-5)


def test_prediction_in_batches_equals_one_pass_in_eval_mode(network) -> None:
    x = images(EVALUATION_BATCH + 3)
    logits = predict(network, x)
    with torch.no_grad():
        expected = network.eval()(x).logits
    assert logits.shape == (EVALUATION_BATCH + 3, 4)
    torch.testing.assert_close(logits, expected)


def test_features_come_from_the_same_pass_as_the_logits(network) -> None:
    x = images(EVALUATION_BATCH + 3)
    features, logits = features_and_logits(network, x)
    assert network.training
    assert torch.equal(logits, predict(network, x))
    with torch.no_grad():
        expected = network.eval()(x).features.flatten(1)
    torch.testing.assert_close(features, expected)
    assert not features.is_inference()


class Widths(nn.Module):
    """Notes how many images a pass gets; its features have half precision."""

    def __init__(self) -> None:
        super().__init__()
        self.seen: list[int] = []

    def forward(self, images: torch.Tensor) -> SimpleNamespace:
        assert not self.training
        assert not torch.is_grad_enabled()
        self.seen.append(len(images))
        return SimpleNamespace(features=images.half(), logits=images.flatten(1)[:, :2].half())


@pytest.mark.parametrize(("side", "batch"), [(8, EVALUATION_BATCH), (32, 64), (64, 16), (224, 16)])
def test_on_the_cpu_a_pass_has_as_many_images_as_the_cache_holds(side: int, batch: int) -> None:
    x = torch.zeros(batch + 1, 1, side, side)
    network = Widths()
    features, logits = features_and_logits(network, x)
    assert predict(network, x).dtype == features.dtype == logits.dtype == torch.float32
    assert features.shape == (batch + 1, side * side)
    assert network.seen == [batch, 1, batch, 1]
    assert evaluation_batch(x.to("meta")) == EVALUATION_BATCH


@pytest.mark.parametrize("training", [True, False])
def test_prediction_puts_the_mode_back_and_moves_no_statistics(network, training: bool) -> None:
    network.train(training)
    before = {name: tensor.clone() for name, tensor in network.state_dict().items()}
    predict(network, images(5))
    assert network.training == training
    assert all(torch.equal(before[name], tensor) for name, tensor in network.state_dict().items())


def test_the_mode_is_put_back_when_evaluation_fails(network) -> None:
    with pytest.raises(ValueError, match="channels"), evaluating(network):
        raise ValueError("channels")
    assert network.training
    assert torch.is_grad_enabled()
    assert not torch.is_inference_mode_enabled()


def test_class_balance_is_one_for_equal_counts_and_zero_for_a_single_class() -> None:
    assert class_balance([7, 7, 7]) == pytest.approx(1.0)
    assert class_balance([0, 12, 0]) == 0.0
    assert 0.0 < class_balance([1, 11, 0]) < class_balance([4, 8, 0]) < class_balance([4, 4, 4])


def test_class_balance_is_the_entropy_over_that_of_a_flat_histogram() -> None:
    expected = -(0.75 * math.log(0.75) + 0.25 * math.log(0.25)) / math.log(4)
    assert class_balance([3, 0, 1, 0]) == pytest.approx(expected)
    assert class_balance(torch.tensor([300, 0, 100, 0])) == pytest.approx(expected)


def test_a_histogram_of_nothing_has_no_balance() -> None:
    with pytest.raises(DataError, match="class_balance: no image was counted"):
        class_balance([0, 0, 0])
