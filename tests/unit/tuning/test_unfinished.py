"""How often the state of long work is saved."""

from dataclasses import dataclass
from pathlib import Path

import pytest

from tuning.storage import Storage
from tuning.trial import unfinished
from tuning.trial.unfinished import KEPT_EVERY_S, SHARE_OF_SAVING, Unfinished


class Clock:
    """Stands for the module `time`: it moves when it is told."""

    def __init__(self) -> None:
        self.now = 1000.0

    def monotonic(self) -> float:
        return self.now


@dataclass
class State:
    """A state whose saving takes so many seconds."""

    clock: Clock
    takes: float

    def save(self, path: Path) -> None:
        path.parent.mkdir(exist_ok=True)
        path.write_text(f"{self.clock.now}")
        self.clock.now += self.takes


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    found = Clock()
    monkeypatch.setattr(unfinished, "time", found)
    return found


@pytest.mark.parametrize(("takes", "every"), [(0.01, KEPT_EVERY_S), (2.0, 2.0 / SHARE_OF_SAVING)])
def test_it_is_saved_every_20_seconds_or_less_often_where_saving_takes_long(
    takes: float, every: float, clock: Clock, tmp_path: Path
) -> None:
    work, saved, file = Unfinished[State](Storage(str(tmp_path)), "probes/a.pt"), set[str](), tmp_path / "probes/a.unfinished.pt"
    began = clock.now
    while clock.now < began + 3600:
        work.keep(lambda: State(clock, takes))
        clock.now += 1
        if file.exists():
            saved.add(file.read_text())
    assert len(saved) == pytest.approx(3600 / (every + takes), rel=0.06)


def test_what_is_complete_leaves_no_state_and_nothing_is_loaded(clock: Clock, tmp_path: Path) -> None:
    work = Unfinished[State](Storage(str(tmp_path)), "probes/a.pt")
    clock.now += KEPT_EVERY_S
    work.keep(lambda: State(clock, 0.0))
    assert work.load(lambda path: State(clock, float(path.read_text()))) == State(clock, 1000 + KEPT_EVERY_S)
    work.complete(State(clock, 0.0))
    assert [file.name for file in (tmp_path / "probes").iterdir()] == ["a.pt"]
    assert work.load(lambda path: pytest.fail("there is none")) is None
    work.complete(State(clock, 0.0))
