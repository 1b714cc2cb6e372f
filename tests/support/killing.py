"""Studies that are killed on purpose: start a driver, end it at a chosen moment, look at what is left."""

import itertools
import os
import signal
import subprocess
import sys
import time
import traceback
from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from mlflow import MlflowClient

from tests.support.studies import ROOT, tiny_study
from tuning.display import Display
from tuning.launch import Journal
from tuning.launch.events import Epoch
from tuning.lineage import Segment
from tuning.replay.comparison import is_of_the_moment
from tuning.study import Study
from tuning.trial.local import run_trial

POLL_S = 0.1
"""Pause between two looks at a launch: more of them would take a core from the driver and its workers."""


def slow_study(folder: Path, *, teacher: Path | None = None) -> dict[str, Any]:
    """The tiny study with epochs long enough to be hit by a signal, and no dataset where a teacher is given."""
    study = tiny_study()
    study["storage"] = str(folder / "runs")
    study["config"] |= {"epochs": 6}
    study["config"]["schedule"] |= {"iterations": 20}
    study["search"] = {"num_trials": 6, "startup_trials": 3, "seed": 0}
    if teacher is not None:
        del study["config"]["dataset"]
        study["config"]["teacher"] = {"path": str(teacher)}
    return study


def start(*arguments: str | Path, cwd: Path) -> subprocess.Popen[bytes]:
    """The command line in a process of its own."""
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    command = [sys.executable, "-m", "tuning", *map(str, arguments)]
    with (cwd / "driver.log").open("ab") as log:
        return subprocess.Popen(command, cwd=cwd, env=environment, stdout=log, stderr=log, stdin=subprocess.DEVNULL)


def wait_for_epochs(folder: Path, count: int, driver: subprocess.Popen[bytes], *, timeout_s: float = 300) -> None:
    """Return when the launch in `folder` has recorded so many epochs, or its driver has ended."""
    wait_until(lambda: count_epochs(folder) >= count, driver, timeout_s=timeout_s)


def wait_for_record(folder: Path, driver: subprocess.Popen[bytes]) -> None:
    """Return when the launch in `folder` has its first record, or its driver has ended."""
    wait_until(lambda: any(Journal(folder).events()), driver)


def wait_until(is_so: Callable[[], object], driver: subprocess.Popen[bytes], *, timeout_s: float = 300) -> None:
    """Return when something is so, or the driver has ended. TimeoutError if neither comes to pass."""
    deadline = time.monotonic() + timeout_s
    while driver.poll() is None and not is_so():
        if time.monotonic() > deadline:
            raise TimeoutError(f"not so after {timeout_s:.0f} s, and the driver runs")
        time.sleep(POLL_S)


def count_epochs(folder: Path) -> int:
    return sum(isinstance(event, Epoch) for event in Journal(folder).events())


def end(driver: subprocess.Popen[bytes], how: signal.Signals, *, timeout_s: float = 90) -> int:
    """Send `how` and wait for the end."""
    if driver.poll() is None:
        driver.send_signal(how)
    return driver.wait(timeout_s)


Curves = dict[int, dict[str, list[tuple[int, float]]]]


def recorded_curves(storage: Path, study: str = "tiny") -> Curves:
    """All that MLflow holds of each trial, by number and metric, timings left out: (epoch, value), in order."""
    client = MlflowClient(tracking_uri=f"sqlite:///{storage / 'mlflow.db'}")
    experiment = client.get_experiment_by_name(study)
    curves: Curves = defaultdict(dict)
    for run in client.search_runs([experiment.experiment_id], "tags.kind = 'trial'"):
        number = int(run.data.tags["number"])
        assert number not in curves, f"trial {number} has two runs"
        for metric in itertools.filterfalse(is_of_the_moment, run.data.metrics):
            history = client.get_metric_history(run.info.run_id, metric)
            curves[number][metric] = sorted((point.step, point.value) for point in history)
    return dict(curves)


def statuses(storage: Path, study: str = "tiny") -> dict[str, str]:
    """Every run's status by its name."""
    client = MlflowClient(tracking_uri=f"sqlite:///{storage / 'mlflow.db'}")
    experiment = client.get_experiment_by_name(study)
    return {run.info.run_name: run.info.status for run in client.search_runs([experiment.experiment_id])}


def repeat_alone(
    study: Study, point: Mapping[str, Any], *, epochs: int, schedule: Sequence[Segment] = ()
) -> dict[str, list[tuple[int, float]]]:
    """The same trial undisturbed, in this process: by metric (epoch, value), in order; of a population, along its lineage."""
    threads = torch.get_num_threads()
    try:
        results = run_trial(study, dict(point), Display(quiet=True), max_epochs=epochs, schedule=schedule)
    finally:
        torch.set_num_threads(threads)
    names = {name for result in results for name in result}  # some are measured in the first or the last epoch only
    return {name: [(result["epoch"], result[name]) for result in results if name in result] for name in names}


def after(epoch: int, curve: Sequence[tuple[int, float]]) -> list[tuple[int, float]]:
    """What a curve of (epoch, value) has after `epoch`."""
    return [point for point in curve if point[0] > epoch]


STEPS = ("open", "os.rename", "os.mkdir", "os.rmdir", "os.remove", "os.truncate", "fcntl.flock", "sqlite3.connect")
"""What Python tells of before it does it: each makes or changes something that outlives the process."""


def forked(action: Callable[[], object]) -> int:
    """Run `action` in a copy of this process -> its id; its exit status is 1 if that fails.

    The copy ends here in any case: one that returned would be a second pytest, which runs and reports the tests that follow.
    """
    child = os.fork()
    if child == 0:
        status = 1
        try:
            action()
            status = 0
        except BaseException:
            traceback.print_exc()
        finally:
            os._exit(status)
    return child


def dies_at(step: int, action: Callable[[], object], *, within: Path) -> bool:
    """Run `action` in a process that is killed before its `step`-th change below `within`, from 0; whether it came so far."""
    left = itertools.count(step, -1)

    def kill_in_time(event: str, arguments: tuple[object, ...]) -> None:
        if event in STEPS and (event == "fcntl.flock" or str(within) in str(arguments[0])) and next(left) == 0:
            os.kill(os.getpid(), signal.SIGKILL)

    def watched() -> None:
        sys.addaudithook(kill_in_time)
        action()

    child = forked(watched)
    _, how = os.waitpid(child, 0)
    if os.WIFEXITED(how):
        assert os.WEXITSTATUS(how) == 0, "the action failed before it could be killed"
        return False
    return os.WTERMSIG(how) == signal.SIGKILL
