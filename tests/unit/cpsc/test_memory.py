import pytest
import torch

from cpsc.errors import CheckpointError
from cpsc.memory import FeatureBank, ImagePool, num_bytes
from cpsc.rng import stream


def images(*values: int) -> torch.Tensor:
    """Images that can be told apart by their one brightness."""
    return torch.tensor(values, dtype=torch.uint8)[:, None, None, None].expand(-1, 1, 2, 2)


def pool(limit: int = 100) -> ImagePool:
    return ImagePool(limit=limit, channels=1, image_size=2, device=torch.device("cpu"))


def bank(size: int = 6, *, dim: int = 2, seed: int = 0) -> FeatureBank:
    return FeatureBank(size=size, dim=dim, rng=stream(seed, "bank"))


def batch(*values: float) -> tuple[torch.Tensor, torch.Tensor]:
    """Local and global features that can be told apart: the global ones are negative."""
    local = torch.tensor(values)[:, None].expand(-1, 2)
    return local, -local


def test_a_new_pool_is_empty_and_then_keeps_the_images_in_their_order_as_bytes() -> None:
    kept = pool()
    assert len(kept) == kept.num_bytes == 0
    kept.add(images(1, 2))
    kept.add(images(3))
    assert kept.images.dtype == torch.uint8
    assert kept.images[:, 0, 0, 0].tolist() == [1, 2, 3]
    assert (len(kept), kept.num_bytes) == (3, 3 * 4)


def test_beyond_its_limit_a_pool_forgets_the_oldest_images() -> None:
    kept = pool(limit=3)
    for value in range(5):
        kept.add(images(2 * value, 2 * value + 1))
    assert kept.images[:, 0, 0, 0].tolist() == [7, 8, 9]
    kept.add(images(*range(20, 30)))  # a batch larger than the limit
    assert kept.images[:, 0, 0, 0].tolist() == [27, 28, 29]


@pytest.mark.parametrize("limit", [5, 37, 1000])
def test_a_pool_holds_what_joining_all_batches_would_whatever_their_sizes(limit: int) -> None:
    kept, joined = pool(limit), images()
    sizes = torch.randint(0, 12, (200,), generator=torch.Generator().manual_seed(0)).tolist()
    for number, size in enumerate(sizes):
        new = images(*((number + place) % 256 for place in range(size)))
        before, held = kept.images, kept.images.clone()
        kept.add(new)
        joined = torch.cat([joined, new])[-limit:]
        assert torch.equal(kept.images, joined)
        assert torch.equal(before, held), "what was handed out has changed"


def test_a_pool_copies_each_image_about_once_and_has_room_for_as_many_again(monkeypatch: pytest.MonkeyPatch) -> None:
    kept, moved = pool(limit=1000), []
    move = ImagePool._move
    monkeypatch.setattr(ImagePool, "_move", lambda self, room: (moved.append(len(self)), move(self, room=room)))
    for _ in range(1000):
        kept.add(images(1, 2, 3, 4))
    assert sum(moved) <= 2 * 4000
    assert len(kept._buffer) <= 2 * 1000
    assert kept.state_dict()["images"].untyped_storage().nbytes() == kept.num_bytes == 1000 * 4


def test_a_pool_comes_back_from_its_state() -> None:
    kept, other = pool(), pool()
    kept.add(images(5, 6))
    other.load_state_dict(kept.state_dict())
    other.add(images(7))
    assert other.images[:, 0, 0, 0].tolist() == [5, 6, 7]
    assert len(kept) == 2


@pytest.mark.parametrize(
    "state",
    [torch.zeros(2, 1, 4, 4, dtype=torch.uint8), torch.zeros(2, 1, 2, 2), torch.zeros(2, 3, 2, 2, dtype=torch.uint8), [1, 2]],
)
def test_a_state_of_images_of_another_kind_is_refused(state) -> None:
    with pytest.raises(CheckpointError, match="image pool does not hold images of this size"):
        pool().load_state_dict({"images": state})


def test_nothing_is_drawn_from_a_new_bank() -> None:
    local, global_ = bank().draw(4)
    assert local.shape == global_.shape == (0, 2)


def test_a_bank_keeps_whole_batches_and_the_oldest_go_first() -> None:
    kept = bank(size=6)
    for start in (1.0, 3.0, 5.0, 7.0):
        kept.add(*batch(start, start + 1))
    assert kept.features[:, 0, 0].tolist() == [7, 8, 3, 4, 5, 6]
    assert kept.num_written == 8


def test_a_half_filled_bank_draws_only_what_was_written() -> None:
    kept = bank(size=6)
    kept.add(*batch(1.0, 2.0))
    assert sorted(kept.draw(5)[0][:, 0].tolist()) == [1.0, 2.0]
    kept.add(*batch(3.0, 4.0))
    assert sorted(kept.draw(5)[0][:, 0].tolist()) == [1.0, 2.0, 3.0, 4.0]


def test_rows_are_drawn_without_replacement_at_most_as_many_as_asked_and_the_views_stay_together() -> None:
    kept = bank(size=8)
    kept.add(*batch(*(float(value) for value in range(1, 9))))
    seen = set()
    for _ in range(20):
        local, global_ = kept.draw(5)
        assert len(set(local[:, 0].tolist())) == 5
        assert torch.equal(global_, -local)
        seen |= set(local[:, 0].tolist())
    assert seen == set(range(1, 9))


def test_remembered_features_carry_no_graph() -> None:
    local = torch.ones(2, 2, requires_grad=True)
    kept = bank()
    kept.add(local, 2 * local)
    assert not kept.features.requires_grad
    assert not any(side.requires_grad for side in kept.draw(2))


def test_a_banks_state_holds_its_rows_its_pointer_and_its_draws() -> None:
    first, second = bank(seed=0), bank(seed=1)
    first.add(*batch(1.0, 2.0))
    first.add(*batch(3.0, 4.0))
    first.draw(2)
    second.load_state_dict(first.state_dict())
    for kept in (first, second):
        kept.add(*batch(5.0, 6.0))
        kept.add(*batch(7.0, 8.0))
    assert torch.equal(first.features, second.features)
    assert second.features[:, 0, 0].tolist() == [7, 8, 3, 4, 5, 6]
    for _ in range(3):
        assert torch.equal(first.draw(3)[0], second.draw(3)[0])


def test_memory_is_counted_in_bytes() -> None:
    assert bank(size=40, dim=3).num_bytes == 40 * 2 * 3 * 4
    assert num_bytes(torch.nn.BatchNorm2d(5)) == 4 * 5 * 4 + 8  # scale, shift, mean, variance; and a 64-bit counter
