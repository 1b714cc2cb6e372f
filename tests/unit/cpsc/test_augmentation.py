import math

import pytest
import torch
from torch import Tensor

from cpsc.augmentation import jitter, random_resized_crop
from cpsc.data.dataset import augment


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def noise(*shape: int, seed: int = 0) -> Tensor:
    return torch.rand(*shape, generator=generator(seed))


def coordinates(rows: int, size: int) -> Tensor:
    """Images whose two channels tell each pixel's place: x and y, -1 to 1 from edge to edge."""
    centres = (torch.arange(size) + 0.5) / size * 2 - 1
    one = torch.stack([centres.expand(size, size), centres[:, None].expand(size, size)])
    return one.expand(rows, -1, -1, -1).clone()


def shift_of(moved: Tensor, images: Tensor, reach: int) -> tuple[int, int]:
    found = [
        (down, right)
        for down in range(-reach, reach + 1)
        for right in range(-reach, reach + 1)
        if torch.equal(moved, images.roll((down, right), dims=(2, 3)))
    ]
    assert len(found) == 1
    return found[0]


def test_jitter_shifts_the_whole_batch_circularly_by_at_most_so_many_pixels_in_both_directions() -> None:
    images, rng = noise(3, 2, 8, 8), generator()
    shifts = {shift_of(jitter(images, pixels=2, flip=False, rng=rng), images, 2) for _ in range(300)}
    assert shifts == {(down, right) for down in range(-2, 3) for right in range(-2, 3)}


def test_jitter_mirrors_the_whole_batch_every_other_time() -> None:
    images, rng = noise(3, 2, 8, 8), generator()
    mirrored = 0
    for _ in range(200):
        moved = jitter(images, pixels=0, flip=True, rng=rng)
        assert torch.equal(moved, images) or torch.equal(moved, images.flip(3))
        mirrored += torch.equal(moved, images.flip(3))
    assert 70 < mirrored < 130


def test_without_pixels_and_flip_jitter_changes_nothing() -> None:
    images = noise(2, 1, 4, 4)
    assert torch.equal(jitter(images, pixels=0, flip=False, rng=generator()), images)


def test_jitter_hands_every_gradient_back_to_its_pixel() -> None:
    images, factors = noise(2, 1, 6, 6).requires_grad_(), noise(2, 1, 6, 6, seed=1)
    (jitter(images, pixels=2, flip=False, rng=generator(3)) * factors).sum().backward()
    assert torch.equal(jitter(images.grad, pixels=2, flip=False, rng=generator(3)), factors)


def test_each_image_is_cropped_and_mirrored_on_its_own_and_differentiably() -> None:
    images = (noise(64, 1, 6, 6) + 1.0).requires_grad_()
    views = augment(images, crop_padding=2, flip=True, rng=generator())
    kept = (views > 0).float().mean(dim=(1, 2, 3))
    assert kept.min() >= (4 / 6) ** 2 - 1e-6
    assert len(kept.unique()) > 3
    views.sum().backward()
    assert set(images.grad.unique().tolist()) == {0.0, 1.0}


def crops(rows: int = 400, *, size: int = 16, mirror: bool = False, seed: int = 0) -> tuple[Tensor, Tensor, Tensor]:
    """Left, right, top and bottom edge of each random crop; its width and height as shares of the image."""
    views = random_resized_crop(coordinates(rows, size), mirror=mirror, rng=generator(seed)).double()
    middle = size // 2

    def edges(line: Tensor) -> Tensor:
        step = (line[:, middle] - line[:, middle - 1])[:, None]  # away from the border, where samples are extrapolated
        centre = (line[:, middle] + line[:, middle - 1])[:, None] / 2
        return torch.cat([centre - size / 2 * step, centre + size / 2 * step], 1)

    across, down = edges(views[:, 0, middle]), edges(views[:, 1, :, middle])
    return torch.cat([across, down], 1), (across[:, 1] - across[:, 0]) / 2, (down[:, 1] - down[:, 0]) / 2


def test_a_resized_crop_stays_inside_the_image() -> None:
    edges, _, _ = crops()
    assert edges.min() >= -1 - 1e-4
    assert edges.max() <= 1 + 1e-4
    assert edges.min() < -0.98  # and reaches its border
    assert edges.max() > 0.98


def test_a_resized_crop_takes_a_quarter_to_all_of_the_area() -> None:
    _, width, height = crops()
    area = width * height
    assert area.min() >= 0.25 - 1e-4
    assert area.max() <= 1 + 1e-4
    assert area.min() < 0.3
    assert area.max() > 0.9
    assert area.mean().item() == pytest.approx(0.6, abs=0.05)


def test_a_resized_crops_aspect_ratio_lies_between_three_to_four_and_four_to_three() -> None:
    _, width, height = crops()
    ratio = width / height
    assert ratio.min() >= 3 / 4 - 1e-3
    assert ratio.max() <= 4 / 3 + 1e-3
    assert ratio.min() < 0.78
    assert ratio.max() > 1.28
    assert ratio.log().mean().item() == pytest.approx(0.0, abs=0.03)


def test_half_of_the_resized_crops_are_mirrored_where_wished() -> None:
    _, width, height = crops(mirror=True)
    assert 0.4 < (width < 0).double().mean() < 0.6
    assert (height > 0).all()
    assert (crops(mirror=False)[1] > 0).all()


def test_a_resized_crop_of_a_flat_image_is_that_image() -> None:
    flat = torch.full((8, 3, 8, 8), 0.7)
    torch.testing.assert_close(random_resized_crop(flat, mirror=True, rng=generator()), flat)


def test_every_image_receives_a_gradient_through_its_crop_whose_sum_is_the_number_of_pixels() -> None:
    images = noise(16, 1, 8, 8).requires_grad_()
    random_resized_crop(images, mirror=True, rng=generator()).sum().backward()
    torch.testing.assert_close(images.grad.sum(dim=(1, 2, 3)), torch.full((16,), 64.0))


@pytest.mark.parametrize(
    "view",
    [
        lambda images, rng: jitter(images, pixels=2, flip=True, rng=rng),
        lambda images, rng: augment(images, crop_padding=2, flip=True, rng=rng),
        lambda images, rng: random_resized_crop(images, mirror=True, rng=rng),
    ],
    ids=["jitter", "augment", "random_resized_crop"],
)
def test_a_view_follows_its_own_generator_and_no_other(view) -> None:
    images = noise(4, 1, 8, 8)
    before = torch.get_rng_state()
    first = view(images, generator(5))
    torch.manual_seed(123)
    rng = generator(5)
    assert torch.equal(view(images, rng), first)
    assert not torch.equal(torch.stack([view(images, rng) for _ in range(4)]), first.expand(4, -1, -1, -1, -1))
    torch.set_rng_state(before)
    assert math.prod(first.shape) == 4 * 64
