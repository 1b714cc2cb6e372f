"""What a person sees while work goes on."""

import io

import pytest
from rich.console import Console

from tuning import display as progress
from tuning.display import Display, percent


def display(*, terminal: bool = False, quiet: bool = False) -> tuple[Display, io.StringIO]:
    screen = io.StringIO()
    console = Console(file=screen, force_terminal=terminal, width=120, highlight=False, color_system=None)
    return Display(quiet=quiet, console=console), screen


def test_news_is_one_line_whatever_its_length_and_marks() -> None:
    shown, screen = display()
    text = "a [bold]path[/] " + "x" * 300
    shown.say(text)
    assert screen.getvalue() == text + "\n"


def test_quiet_says_and_draws_nothing() -> None:
    shown, screen = display(quiet=True, terminal=True)
    shown.say("news")
    with shown.bar("work", 10) as advance:
        advance(5, "half")
    assert screen.getvalue() == ""


def test_without_a_terminal_a_bar_is_a_few_lines_and_an_end() -> None:
    shown, screen = display()
    with shown.bar("work", 100) as advance:
        for done in range(1, 101):
            advance(done, f"loss {done}")
    lines = screen.getvalue().splitlines()
    assert [line.split(",")[0] for line in lines[:-1]] == ["work: 25/100", "work: 50/100", "work: 75/100"]
    assert lines[0].endswith(" s left loss 25")
    assert lines[-1] == "work: done in 0 s"


@pytest.mark.parametrize(("brief_s", "on_the_way"), [(0.0, ["work: 1/2, about 0 s left"]), (60.0, [])])
def test_a_step_without_words_is_said_only_once_the_work_is_not_brief(brief_s, on_the_way, monkeypatch) -> None:
    monkeypatch.setattr(progress, "BRIEF_S", brief_s)
    shown, screen = display()
    with shown.bar("work", 2) as advance:
        advance(1, "")
        advance(2, "")
    assert screen.getvalue().splitlines() == [*on_the_way, "work: done in 0 s"]


def test_steps_that_jump_over_a_mark_are_said_once() -> None:
    shown, screen = display()
    with shown.bar("work", 100) as advance:
        for done in (10, 60, 62, 90):
            advance(done, "well")
    assert [line.split(",")[0] for line in screen.getvalue().splitlines()[:-1]] == ["work: 60/100", "work: 90/100"]


def test_a_log_says_that_work_goes_on_which_takes_long(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(progress, "HEARTBEAT_S", 0.0)
    shown, screen = display()
    with shown.bar("work", 100) as advance:
        advance(0, "")
        advance(2, "")
    first, second = screen.getvalue().splitlines()[:2]
    assert first == "work: 0/100, time left not known yet"
    assert second.startswith("work: 2/100, about ")


def test_what_was_done_before_is_not_done_again() -> None:
    shown, screen = display()
    with shown.bar("work", 100, done=60) as advance:
        for done in range(61, 101):
            advance(done, "well")
    assert [line.split(",")[0] for line in screen.getvalue().splitlines()] == ["work: 85/100", "work: done in 0 s"]


def test_on_a_terminal_a_bar_shows_title_share_and_state() -> None:
    shown, screen = display(terminal=True)
    with shown.bar("work", 4) as advance:
        advance(1, "loss 0.5")
    drawn = screen.getvalue()
    assert "work" in drawn
    assert "25 %" in drawn
    assert "loss 0.5" in drawn
    assert "done in" not in drawn


def test_an_error_inside_a_bar_passes_through_without_an_end() -> None:
    shown, screen = display()
    with pytest.raises(RuntimeError, match="broken"), shown.bar("work", 4):
        raise RuntimeError("broken")
    assert "done" not in screen.getvalue()


@pytest.mark.parametrize(
    ("share", "text"), [(None, "-"), (0.0, "0.00 %"), (1.0, "100.00 %"), (0.98765, "98.77 %"), (0.5, "50.00 %")]
)
def test_shares_read_as_percent(share: float | None, text: str) -> None:
    assert percent(share) == text
