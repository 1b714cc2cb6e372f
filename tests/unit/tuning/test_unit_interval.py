"""Where values lie in their ranges, and which values lie where."""

import pytest

from tuning.study.distributions import Distribution
from tuning.study.unit_interval import position_of, value_at

RANGES = [
    Distribution("uniform", (-1, 3)),
    Distribution("loguniform", (0.1, 10.0)),
    Distribution("quniform", (0.0, 1.0, 0.1)),
    Distribution("randint", (1, 6)),
    Distribution("lograndint", (1, 100)),
    Distribution("qrandint", (8, 64, 8)),
    Distribution("randint", (4, 5)),
]


@pytest.mark.parametrize("domain", RANGES, ids=str)
def test_every_position_is_a_value_that_can_be_drawn_of_the_kind_that_is(domain: Distribution) -> None:
    for place in range(101):
        value = value_at(domain, place / 100)
        assert domain.contains(value)
        assert isinstance(value, int) is ("int" in domain.sampler)


@pytest.mark.parametrize("domain", RANGES, ids=str)
def test_a_value_lies_where_it_was_found(domain: Distribution) -> None:
    for place in range(1, 20):
        value = value_at(domain, place / 20)
        assert value_at(domain, position_of(domain, value)) == pytest.approx(value)


def test_positions_by_hand() -> None:
    assert position_of(RANGES[0], 0.0) == pytest.approx(0.25)
    assert position_of(RANGES[1], 1.0) == pytest.approx(0.5)
    assert position_of(RANGES[3], 1) == pytest.approx(0.1)  # the middle of the first of five equal parts
    assert value_at(RANGES[3], 0.21) == 2
    assert value_at(RANGES[5], 0.0) == 8


def test_what_lies_beyond_an_end_counts_as_the_end() -> None:
    assert position_of(RANGES[1], 0.0) == 0.0
    assert position_of(RANGES[0], 99) == 1.0


def test_whole_numbers_have_equal_parts() -> None:
    drawn = [value_at(RANGES[3], (place + 0.5) / 1000) for place in range(1000)]
    assert {value: drawn.count(value) for value in range(1, 6)} == dict.fromkeys(range(1, 6), 200)
