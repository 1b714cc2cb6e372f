"""A launch watched while somebody else drives it: from its journal, from the store, in a notebook, on a terminal."""

import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from cpsc.errors import ConfigError
from tests.support.events import made
from tests.support.made_sweep import made_store
from tests.support.studies import tiny_study, write_study
from tuning import load_study, watch
from tuning.launch import DriverLock, Journal
from tuning.launch.events import AttemptStart, Epoch, LaunchEnd, LaunchStart, Proposed, TrialEnd, TrialStart
from tuning.launch.folder import STUDY_FILE
from tuning.launch.journal import JOURNAL_FILE
from tuning.outcome import Outcome
from tuning.report import watching
from tuning.report.watching import JournalSource, NotebookTable, StoreSource, source_of, watch_launch
from tuning.results import Launch
from tuning.study import Study

Seen = list[tuple[int, int, bool]]


@pytest.fixture
def study(tmp_path: Path) -> Study:
    return load_study(write_study(tmp_path / "tiny.yaml", tiny_study() | {"storage": str(tmp_path / "runs")}))


def begin(local: Path, name: str, *, time: float = 1.0, study: str = "tiny") -> Journal:
    """A launch that was begun."""
    folder = local / name
    folder.mkdir(parents=True)
    (folder / STUDY_FILE).write_text(f"name: {study}\n")
    journal = Journal(folder)
    journal.append(made(LaunchStart, time=time, study=f"name: {study}\n"))
    journal.append(made(AttemptStart, time=time))
    return journal


def epoch(number: int, passed: int, value: float) -> Epoch:
    return made(Epoch, number=number, epoch=passed, metrics={"probe_agreement": value, "probe_kl": 1.0})


def run_a_trial(journal: Journal, pause: Callable[[], None]) -> None:
    journal.append(made(Proposed))
    journal.append(made(TrialStart))
    for passed, value in ((1, 0.25), (2, 0.5)):
        journal.append(epoch(0, passed, value))
        pause()
    journal.append(made(TrialEnd, outcome=Outcome.COMPLETED, epoch=2))
    journal.append(made(LaunchEnd))


def test_whatever_is_new_is_shown_until_nobody_drives_the_launch(study: Study) -> None:
    journal = begin(study.local, "tiny")
    shown: Seen = []
    held = DriverLock(journal.path.parent)
    assert held.try_acquire()

    def pause() -> None:
        before = len(shown)
        deadline = time.monotonic() + 20
        while len(shown) == before and time.monotonic() < deadline:
            time.sleep(0.01)

    def drive() -> None:
        run_a_trial(journal, pause)
        held.release()

    driver = threading.Thread(target=drive)
    driver.start()
    source = source_of(study, None)
    last = watch_launch(source, lambda launch, alive: shown.append((len(launch.trials), launch.epochs_run, alive)), every_s=0.01)
    driver.join()
    assert isinstance(source, JournalSource)
    assert (1, 1, True) in shown
    assert shown[-1] == (1, 2, False)
    assert len(shown) == len(set(shown)), "what has not changed is not shown again"
    assert last.trials[0].outcome is Outcome.COMPLETED


def test_a_launch_that_is_over_is_shown_once(study: Study, capsys: pytest.CaptureFixture[str]) -> None:
    run_a_trial(begin(study.local, "tiny"), lambda: None)
    assert watch(study).chosen is not None
    assert capsys.readouterr().out == (
        "tiny: 1 trials done, 0 running, 2 epochs run, best 50.00 % (trial 0); "
        "chosen without a real image: trial 0 at epoch 2, probe_agreement 50.00 %, probe KL 1.0000\n"
    )


def test_interrupting_ends_the_watching_and_gives_what_was_seen(study: Study, monkeypatch: pytest.MonkeyPatch) -> None:
    journal = begin(study.local, "tiny")
    with DriverLock(journal.path.parent):

        def interrupt(seconds: float) -> None:
            raise KeyboardInterrupt

        monkeypatch.setattr(watching, "time", SimpleNamespace(sleep=interrupt))  # and no other thread's sleep
        assert watch_launch(source_of(study, None), lambda launch, alive: None, every_s=1.0).trials == []


def test_the_latest_launch_of_this_study_is_taken_or_the_one_that_is_named(study: Study) -> None:
    begin(study.local, "tiny", time=1.0)
    begin(study.local, "tiny-2", time=3.0)
    begin(study.local, "tiny-3", time=2.0)
    begin(study.local, "tiny-other", time=4.0, study="tiny-other")
    (begin(study.local, "tiny-4", time=5.0).path).write_text("no journal\n")
    assert source_of(study, None).read().name == "tiny-2"
    assert source_of(study, "tiny-3").read().name == "tiny-3"


@pytest.mark.parametrize("name", [None, "tiny-9", "../tiny", "/etc"])
def test_where_there_is_no_launch_it_is_said(study: Study, name: str | None) -> None:
    with pytest.raises(ConfigError, match="run the study's sweep first"):
        source_of(study, name)


@pytest.mark.slow
def test_where_there_is_no_journal_the_store_is_read(study: Study) -> None:
    made_store(study, num_trials=3, epochs=2)
    (study.local / "tiny" / JOURNAL_FILE).unlink()
    shown: list[tuple[str, bool]] = []
    source = source_of(study, None)
    launch = watch_launch(source, lambda launch, alive: shown.append((launch.name, alive)), every_s=0.01)
    assert isinstance(source, StoreSource)
    assert shown == [("tiny", False)]
    assert len(launch.trials) == 3


def test_a_notebooks_table_is_refreshed_in_its_place(study: Study) -> None:
    capture = pytest.importorskip("IPython.utils.capture", reason="the extra dev has it: pip install 'cpsc-tune[dev]'")
    from IPython.core.interactiveshell import InteractiveShell

    run_a_trial(begin(study.local, "tiny"), lambda: None)
    launch: Launch = source_of(study, None).read()
    InteractiveShell.instance()
    with capture.capture_output() as captured:
        table = NotebookTable()
        table(launch, True)
        table(launch, False)
    first, second = captured.outputs
    assert (first.update, second.update) == (False, True)
    assert first.transient["display_id"] == second.transient["display_id"]
    assert "<table" in first.data["text/html"]
    assert "as of" in first.data["text/html"]
    assert "no longer running" in second.data["text/html"]


def test_outside_of_a_notebook_nothing_of_it_is_asked_for(monkeypatch: pytest.MonkeyPatch, study: Study) -> None:
    lines: list[Any] = []
    monkeypatch.setitem(sys.modules, "IPython", None)
    run_a_trial(begin(study.local, "tiny"), lambda: None)
    watching.default_show(lines.append)(source_of(study, None).read(), True)
    assert lines == ["tiny: 1 trials done, 0 running, 2 epochs run, best 50.00 % (trial 0)"]
