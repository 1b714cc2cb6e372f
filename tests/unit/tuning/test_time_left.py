"""Time left: from the pace of late, and in words that one can plan by."""

import pytest

from tuning import time_left
from tuning.time_left import Pace, in_words, words_left


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (0.4, "0 s"),
        (59, "59 s"),
        (89.4, "89 s"),
        (90, "2 min"),
        (3540, "59 min"),
        (7100, "118 min"),
        (7500, "2 h 5 min"),
        (200_000, "2 days 7 h"),
    ],
)
def test_a_length_of_time_is_said_in_the_units_that_one_plans_in(seconds: float, text: str) -> None:
    assert in_words(seconds) == text
    assert words_left(seconds) == f"about {text} left"


def test_what_is_not_known_is_not_said() -> None:
    assert words_left(Pace(10, 0.0).left_s(5.0)) == "time left not known yet"


def test_the_time_left_follows_the_pace_and_shrinks_between_two_steps() -> None:
    pace = Pace(10, 0.0)
    pace.advance(2, 4.0)
    assert pace.left_s(4.0) == pytest.approx(16.0)
    assert pace.left_s(5.0) == pytest.approx(15.0)
    assert pace.left_s(100.0) == 0.0


def test_a_machine_that_becomes_busy_is_noticed() -> None:
    pace = Pace(100, 0.0)
    for step in range(1, 11):
        pace.advance(step, float(step))
    for step in range(1, 11):
        pace.advance(10 + step, 10.0 + 3 * step)
    assert pace.left_s(40.0) == pytest.approx(80 * 3.0)


def test_what_was_done_before_tells_nothing_of_the_pace() -> None:
    pace = Pace(100, 0.0, done=50)
    pace.advance(60, 10.0)
    assert pace.left_s(10.0) == pytest.approx(40.0)


def test_long_work_needs_no_more_than_so_many_samples(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(time_left, "MAX_SAMPLES", 8)
    pace = Pace(1000, 0.0)
    for step in range(1, 501):
        pace.advance(step, float(step))
    assert len(pace._samples) <= 9
    assert pace.left_s(500.0) == pytest.approx(500.0)
