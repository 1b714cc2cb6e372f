"""A notebook's day: sweeps in one process, one after the other, watched from another thread; two at once are refused."""

import os
import threading
import time
from pathlib import Path
from typing import Any
from unittest import mock

import mlflow
import pytest
import ray

from cpsc.errors import ConfigError
from tests.support.studies import tiny_study, write_study
from tuning import load_results, load_study, run_study, watch
from tuning.cluster.ray_compat import on_loopback_only
from tuning.cluster.session import RaySession
from tuning.launch.folder import is_begun
from tuning.outcome import Outcome
from tuning.results import SweepSummary
from tuning.study import Study
from tuning.tracking.event_files import FOLDER

pytestmark = [
    pytest.mark.ray,
    pytest.mark.filterwarnings("ignore::ResourceWarning", "ignore::pytest.PytestUnraisableExceptionWarning"),  # Ray's own Popens
]


def small_study(folder: Path, name: str) -> Study:
    """Two trials of one epoch."""
    study: dict[str, Any] = tiny_study() | {"name": name, "storage": str(folder / "runs"), "tracking": {"tensorboard": True}}
    study["config"] |= {"epochs": 1, "student": {"arch": "wrn_10_1", "warmup_epochs": 0}}
    study["search"] |= {"num_trials": 2}
    return load_study(write_study(folder / f"{name}.yaml", study))


def state_of_process() -> tuple[dict[str, str], str, str, bool]:
    return dict(os.environ), str(Path.cwd()), mlflow.get_tracking_uri(), ray.is_initialized()


def test_a_sweep_in_a_thread_is_watched_a_second_one_waits_and_then_runs(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    study = small_study(tmp_path, "first")
    before, summaries = state_of_process(), list[SweepSummary]()
    sweep = threading.Thread(target=lambda: summaries.append(run_study(study, quiet=True)))
    sweep.start()
    try:
        while sweep.is_alive() and not is_begun(study.local / "first"):
            time.sleep(0.05)
        with pytest.raises(ConfigError, match=r"^another sweep is running in this process, .* wait for its end"):
            run_study(study, quiet=True)
        watched = watch(study, every_s=0.1)
    finally:
        sweep.join()
    assert [trial.outcome for trial in watched.trials] == [Outcome.COMPLETED] * 2
    assert "first: " in capsys.readouterr().out
    assert state_of_process() == before

    summaries.append(run_study(study, quiet=True))
    assert state_of_process() == before
    assert [summary.launch.name for summary in summaries] == ["first", "first-2"], "the second sweep is a launch of its own"
    for summary in summaries:
        assert summary.model_uri == "models:/first@champion"
        assert summary.launch.chosen is not None
        assert len(list((study.local / summary.launch.name / FOLDER).glob("trial-*/events.out.tfevents.*"))) == 2
    assert len(list((study.local / "teachers").glob("*.pt"))) == 1, "the sweeps share the teacher"
    assert load_results(study, quiet=True).name == "first-2"


def test_the_ray_of_a_program_is_neither_used_nor_shut_down(tmp_path: Path) -> None:
    with on_loopback_only(), mock.patch.dict(os.environ):  # Ray makes its own debugger that of this process, and leaves it
        ray.init(address="local", num_cpus=1, include_dashboard=False, log_to_driver=False)
    try:
        with pytest.raises(ConfigError, match=r"^Ray is already running in this process, .* call ray\.shutdown\(\) first"):
            run_study(small_study(tmp_path, "third"), quiet=True)
        assert ray.is_initialized()
        assert not (tmp_path / "runs" / "third").exists()
    finally:
        ray.shutdown()
    with RaySession(None):
        pass
