"""The columns of a run's pictures: which stay, and that a resumed run goes on with them."""

import pytest
import torch
from torch import Tensor

from cpsc.errors import CheckpointError
from cpsc.gallery import MAX_COLUMNS, Gallery


def column(epoch: int) -> Tensor:
    return torch.full((10, 3, 4, 4), epoch, dtype=torch.uint8)


def filled(epochs: int) -> Gallery:
    gallery = Gallery()
    for epoch in range(1, epochs + 1):
        gallery.add(epoch, column(epoch))
    return gallery


def test_columns_stand_in_the_order_of_their_epochs() -> None:
    gallery = filled(3)
    assert gallery.grid().shape == (10, 3, 3, 4, 4)
    assert gallery.grid()[0, :, 0, 0, 0].tolist() == gallery.epochs == [1, 2, 3]


@pytest.mark.parametrize("epochs", [MAX_COLUMNS, MAX_COLUMNS + 1, 100])
def test_there_are_never_more_than_a_person_compares_and_the_first_and_latest_stay(epochs: int) -> None:
    found = filled(epochs).epochs
    assert MAX_COLUMNS // 2 <= len(found) <= MAX_COLUMNS
    assert (found[0], found[-1]) == (1, epochs)


def test_a_resumed_run_has_the_columns_of_an_uninterrupted_one() -> None:
    gallery = Gallery()
    gallery.load_state_dict(filled(20).state_dict())
    for epoch in range(21, 31):
        gallery.add(epoch, column(epoch))
    assert gallery.epochs == filled(30).epochs
    assert torch.equal(gallery.grid(), filled(30).grid())


def test_what_is_kept_is_no_view_of_something_larger() -> None:
    gallery = Gallery()
    gallery.add(1, torch.zeros(10, 8, 3, 4, 4, dtype=torch.uint8)[:, 0])
    assert gallery.state_dict()[1].untyped_storage().nbytes() == 10 * 3 * 4 * 4


@pytest.mark.parametrize(
    "state",
    [[1], {"1": column(1)}, {1: column(1).float()}, {1: column(1)[0]}, {1: column(1), 2: column(2)[:5]}, {1: "images"}],
    ids=str,
)
def test_a_state_that_holds_something_else_is_refused(state: object) -> None:
    with pytest.raises(CheckpointError, match="does not hold columns of images"):
        Gallery().load_state_dict(state)  # type: ignore[arg-type]
