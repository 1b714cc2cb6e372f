import pytest
import torch

from cpsc.losses.attention import attention_distance, attention_map


def features(*, seed: int, rows: int = 3) -> torch.Tensor:
    return torch.randn(rows, 4, 5, 6, generator=torch.Generator().manual_seed(seed))


def test_a_map_is_the_channels_mean_square_brought_to_unit_length_per_sample() -> None:
    one = torch.tensor([[[[1.0, 0.0], [3.0, 2.0]], [[1.0, 2.0], [1.0, 0.0]]]])  # mean squares 1, 2, 5, 2
    torch.testing.assert_close(attention_map(one), torch.tensor([[1.0, 2.0, 5.0, 2.0]]) / 34**0.5)


def test_every_samples_map_has_unit_norm() -> None:
    maps = attention_map(features(seed=0))
    assert maps.shape == (3, 30)
    torch.testing.assert_close(maps.norm(dim=1), torch.ones(3))


def test_neither_the_strength_nor_the_sign_of_the_features_matters() -> None:
    torch.testing.assert_close(attention_map(-7.0 * features(seed=0)), attention_map(features(seed=0)))


def test_features_that_are_zero_everywhere_have_a_finite_map_and_gradient() -> None:
    dead = torch.zeros(2, 3, 2, 2, requires_grad=True)
    attention_map(dead).sum().backward()
    assert dead.grad.isfinite().all()


def test_the_distance_adds_the_stages_mean_squared_differences() -> None:
    student = [torch.tensor([[1.0, 0.0]]), torch.tensor([[0.0, 1.0, 0.0, 0.0]])]
    teacher = [torch.tensor([[0.0, 1.0]]), torch.tensor([[0.0, 0.0, 1.0, 0.0]])]
    assert attention_distance(student, teacher).tolist() == pytest.approx([2 / 2 + 2 / 4])


def test_the_distance_is_per_sample_zero_where_maps_agree_and_symmetric() -> None:
    first = [attention_map(features(seed=seed)) for seed in (0, 1)]
    second = [attention_map(features(seed=seed)) for seed in (2, 3)]
    assert torch.equal(attention_distance(first, first), torch.zeros(3))
    assert attention_distance(first, second).min() > 0
    torch.testing.assert_close(attention_distance(first, second), attention_distance(second, first))


def test_networks_with_unequal_numbers_of_stages_are_refused() -> None:
    one = attention_map(features(seed=0))
    with pytest.raises(ValueError, match="zip"):
        attention_distance([one, one], [one])
