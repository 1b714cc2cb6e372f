import math

import pytest
import torch

from cpsc.losses.image_prior import image_norm, mean_total_variation, total_variation


def test_total_variation_of_a_two_by_two_image_is_the_value_worked_out_by_hand() -> None:
    image = torch.tensor([[[[1.0, 2.0], [3.0, 5.0]]]])
    horizontal, vertical, diagonal, antidiagonal = math.sqrt(1 + 4), math.sqrt(4 + 9), 4.0, 1.0
    assert total_variation(image).item() == pytest.approx(horizontal + vertical + diagonal + antidiagonal)


def test_total_variation_takes_norms_over_the_whole_batch() -> None:
    image = torch.rand(1, 3, 5, 5, generator=torch.Generator().manual_seed(0))
    assert total_variation(image.repeat(4, 1, 1, 1)).item() == pytest.approx(2 * total_variation(image).item())


def test_total_variation_is_zero_for_flat_images_whatever_their_brightness() -> None:
    assert total_variation(torch.full((2, 3, 4, 4), 0.7)).item() == 0.0
    image = torch.rand(2, 3, 4, 4, generator=torch.Generator().manual_seed(1))
    assert total_variation(image + 5.0).item() == pytest.approx(total_variation(image).item(), rel=1e-4)


def test_image_norm_is_the_two_norm_of_the_whole_batch() -> None:
    images = torch.zeros(2, 1, 2, 2)
    images[0, 0, 0, 0], images[1, 0, 1, 1] = 3.0, -4.0
    assert image_norm(images).item() == pytest.approx(5.0)


@pytest.mark.parametrize("prior", [total_variation, mean_total_variation, image_norm])
def test_a_step_against_the_gradient_lowers_the_prior(prior) -> None:
    images = torch.rand(2, 1, 4, 4, generator=torch.Generator().manual_seed(2)).requires_grad_()
    before = prior(images)
    before.backward()
    assert prior(images.detach() - 1e-2 * images.grad) < before


def test_mean_total_variation_of_a_two_by_two_image_is_the_value_worked_out_by_hand() -> None:
    image = torch.tensor([[[[1.0, 2.0], [3.0, 5.0]]]])
    horizontal, vertical, diagonal, antidiagonal = (1 + 2) / 2, (2 + 3) / 2, 4.0, 1.0
    assert mean_total_variation(image).item() == pytest.approx(horizontal + vertical + diagonal + antidiagonal)


def test_mean_total_variation_does_not_depend_on_the_size_of_the_batch() -> None:
    image = torch.rand(1, 3, 5, 5, generator=torch.Generator().manual_seed(0))
    assert mean_total_variation(image.repeat(4, 1, 1, 1)).item() == pytest.approx(mean_total_variation(image).item())


def test_mean_total_variation_is_zero_for_flat_images() -> None:
    assert mean_total_variation(torch.full((2, 3, 4, 4), 0.7)).item() == 0.0
