"""What Tune's callbacks write into the journal, where no sweep of the other tests comes by."""

from pathlib import Path
from types import SimpleNamespace
from typing import cast

from ray.tune.experiment import Trial

from tests.support.studies import tiny_study
from tuning.launch import Journal, LaunchHistory, TrialHistory
from tuning.launch.events import Epoch, Retry
from tuning.study.config import resolve_study
from tuning.sweep.recorder import Recorder


def test_a_retry_is_written_with_its_count_over_all_attempts(tmp_path: Path) -> None:
    history = LaunchHistory(trials={3: TrialHistory(3, {}, values={1: 0.5, 2: 0.6}, num_retries=1)})
    recorder = Recorder(Journal(tmp_path), history, resolve_study(tiny_study()).base, epochs=3, shared={})
    for number in (3, 3, 4):
        trial = SimpleNamespace(config={"number": number}, error_file=None)
        recorder.on_trial_recover(0, [], cast(Trial, trial))
    written = [event for event in Journal(tmp_path).events() if isinstance(event, Retry)]
    assert [(event.number, event.epoch, event.count) for event in written] == [(3, 2, 2), (3, 2, 3), (4, 0, 1)]


def test_what_a_trial_failed_with_is_recorded_without_its_secrets(tmp_path: Path) -> None:
    (tmp_path / "error.txt").write_text("Traceback ...\nOSError: Authorization: Bearer hidden1234, AWS_SECRET_ACCESS_KEY=hidden\n")
    recorder = Recorder(Journal(tmp_path), LaunchHistory(), resolve_study(tiny_study()).base, epochs=3, shared={})
    trial = SimpleNamespace(
        config={"number": 0, "point": {}}, error_file=str(tmp_path / "error.txt"), checkpoint=None, trial_id="a", last_result={}
    )
    recorder.on_trial_error(0, [], cast(Trial, trial))
    result = {"epoch": 1, "best_probe_agreement": 0.5, "note": "http://me:hidden@host is away"}
    recorder.on_trial_result(0, [], cast(Trial, trial), result)
    text = Journal(tmp_path).path.read_text()
    assert "trial_end" in text
    assert "***" in text
    assert "hidden" not in text


def test_epochs_that_a_trial_repeats_since_its_checkpoint_are_recorded_once(tmp_path: Path) -> None:
    history = LaunchHistory(trials={0: TrialHistory(0, {}, values={1: 0.5, 2: 0.6})})
    recorder = Recorder(Journal(tmp_path), history, resolve_study(tiny_study()).base, epochs=4, shared={})
    trial = cast(Trial, SimpleNamespace(config={"number": 0, "point": {}}))
    for epoch in (2, 3, 3, 4):
        recorder.on_trial_result(0, [], trial, {"epoch": epoch, "best_probe_agreement": 0.7})
    assert [event.epoch for event in Journal(tmp_path).events() if isinstance(event, Epoch)] == [3, 4]
