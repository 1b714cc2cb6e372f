"""A probe set whose making was interrupted: it goes on where it was, says so, and leaves nothing behind."""

import io
from pathlib import Path

import pytest
import torch
from rich.console import Console

from cpsc.probe import ProbeConfig, ProbeSet, synthesise
from tests.support.making import Interrupting, keep_every_state
from tuning.display import Display
from tuning.storage import Storage
from tuning.trial import Assets
from tuning.trial.making_probe import make_probe

CPU = torch.device("cpu")
CONFIG = ProbeConfig(num_images=20, batch_size=10, steps=3)
NAME, UNFINISHED = "probes/a.pt", "probes/a.unfinished.pt"


def shown(screen: io.StringIO) -> Console:
    return Console(file=screen, width=120, highlight=False, color_system=None)


@pytest.fixture(autouse=True)
def kept_at_every_step(monkeypatch: pytest.MonkeyPatch) -> None:
    keep_every_state(monkeypatch)


def test_it_goes_on_where_it_was_and_gives_the_same_images(assets: Assets, tmp_path: Path) -> None:
    storage, screen = Storage(str(tmp_path)), io.StringIO()
    with pytest.raises(KeyboardInterrupt):
        make_probe(assets.teacher, CONFIG, storage, NAME, CPU, Interrupting(shown(screen), at="probe set: 4/"))
    assert not storage.exists(NAME)
    make_probe(assets.teacher, CONFIG, storage, NAME, CPU, Display(console=shown(screen)))
    assert "probe set: continues after step 3 of 6, where it was interrupted" in screen.getvalue()
    made, whole = ProbeSet.load(tmp_path / NAME, teacher=assets.teacher), synthesise(assets.teacher, CONFIG, CPU)
    assert torch.equal(made.images, whole.images)
    assert not storage.exists(UNFINISHED)


def test_what_cannot_be_gone_on_with_is_begun_anew(assets: Assets, tmp_path: Path) -> None:
    (tmp_path / "probes").mkdir()
    (tmp_path / UNFINISHED).write_bytes(b"half a file")
    make_probe(assets.teacher, CONFIG, Storage(str(tmp_path)), NAME, CPU, Display(quiet=True))
    assert [path.name for path in (tmp_path / "probes").iterdir()] == ["a.pt"]
