"""Ctrl-C in a sweep: answered at once, told apart from other failures, and nothing stays running in the records."""

import os
import signal
from pathlib import Path
from types import SimpleNamespace
from typing import cast

import pytest
import typer
from ray.tune.experiment import Trial

from cpsc.errors import CpscError
from tests.support.studies import tiny_study
from tuning.command_line import run
from tuning.interruption import STOPPING, CtrlC, InterruptedSweepError, answering_ctrl_c
from tuning.launch import Journal, LaunchHistory
from tuning.launch.events import TrialEnd
from tuning.outcome import Outcome
from tuning.study.config import resolve_study
from tuning.sweep.forecast import Forecast, Plan
from tuning.sweep.progress import SweepProgress
from tuning.sweep.recorder import Recorder


def press_ctrl_c() -> None:
    os.kill(os.getpid(), signal.SIGINT)


def test_it_is_answered_at_once_and_the_work_hears_it_too() -> None:
    said: list[str] = []
    heard: list[int] = []
    before = signal.getsignal(signal.SIGINT)
    with answering_ctrl_c(said.append) as ctrl_c:
        signal.signal(signal.SIGINT, lambda signum, frame: heard.append(signum))
        ctrl_c.listen()
        assert not ctrl_c.noted
        press_ctrl_c()
        assert (said, heard, ctrl_c.noted) == ([STOPPING], [signal.SIGINT], True)
    assert signal.getsignal(signal.SIGINT) is before


def test_a_second_one_is_what_the_work_makes_of_it() -> None:
    """Tune puts the handler back that there was before, which ends the work there and then."""
    with answering_ctrl_c(lambda text: None) as ctrl_c:
        original = signal.default_int_handler  # whatever a test before this one has left
        signal.signal(signal.SIGINT, lambda signum, frame: signal.signal(signal.SIGINT, original))
        ctrl_c.listen()
        press_ctrl_c()
        with pytest.raises(KeyboardInterrupt):
            press_ctrl_c()


def test_a_sweep_that_is_interrupted_between_two_trials_is_interrupted() -> None:
    """As after the search's last trial, before the first finalist: no trial is open then."""
    ctrl_c = CtrlC(lambda text: None)
    progress = SweepProgress(LaunchHistory(), Forecast(Plan(1, 1)), metric="score", quiet=True, ctrl_c=ctrl_c)
    progress.on_experiment_end([])
    assert not progress.interrupted
    ctrl_c.noted = True
    progress.on_experiment_end([])
    assert progress.interrupted


def test_what_tune_could_not_end_is_ended_in_the_records(tmp_path: Path) -> None:
    recorder = Recorder(Journal(tmp_path), LaunchHistory(), resolve_study(tiny_study()).base, epochs=3, shared={})
    trial = SimpleNamespace(config={"number": 4, "point": {}}, checkpoint=None, trial_id="a", last_result={})
    recorder.on_trial_start(0, [], cast(Trial, trial))
    recorder.leave()
    recorder.leave()
    (ended,) = [event for event in Journal(tmp_path).events() if isinstance(event, TrialEnd)]
    assert (ended.number, ended.outcome, ended.reason) == (4, Outcome.INTERRUPTED, "the sweep was interrupted")


ENDS: list[tuple[CpscError, int, str]] = [
    (InterruptedSweepError("it was interrupted", by_signal=True), 130, "it was interrupted"),
    (InterruptedSweepError("no space left on device", by_signal=False), 2, "error: no space left on device"),
]


@pytest.mark.parametrize(("error", "status", "line"), ENDS)
def test_a_script_can_tell_ctrl_c_from_a_machine_that_is_full(
    error: CpscError, status: int, line: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    app = typer.Typer()

    @app.command()
    def fail() -> None:
        raise error

    monkeypatch.setattr("sys.argv", ["cpsc-tune"])
    with pytest.raises(SystemExit) as ended:
        run(app)
    assert ended.value.code == status
    assert capsys.readouterr().err == f"{line}\n"
