"""Sweeps on clusters: nodes are added, given notice and killed; come and go with the work; and a sweep as a Ray job."""

import shlex
import signal
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import psutil
import pytest
import torch
from ray._private.ray_constants import PROCESS_TYPE_RAYLET
from ray.cluster_utils import Cluster
from ray.core.generated import autoscaler_pb2
from ray.job_submission import JobStatus, JobSubmissionClient

from cpsc.data.dataset import Normalisation
from cpsc.models import build_model
from cpsc.rng import seeded_init
from cpsc.teacher import Teacher
from tests.support.clusters import demand_token, head, stay_on_loopback, trial_processes, until
from tests.support.killing import ROOT, count_epochs, end, recorded_curves, repeat_alone, slow_study, start, statuses
from tests.support.studies import write_study
from tuning.launch import Journal, LaunchHistory, replay_events
from tuning.launch.events import TrialStart
from tuning.outcome import Outcome
from tuning.study import load_study

pytestmark = [pytest.mark.ray, pytest.mark.timeout(600)]


@pytest.fixture
def teacher(tmp_path: Path) -> Path:
    """A bundle; what its network knows does not matter here."""
    with seeded_init(0, "teacher"):
        network = build_model("wrn_10_1", num_classes=10, channels=1)
        for _ in range(3):
            network(torch.randn(32, 1, 8, 8))  # batch-norm statistics that have seen something
    path = tmp_path / "teacher.pt"
    Teacher(
        arch="wrn_10_1",
        class_names=tuple("0123456789"),
        channels=1,
        image_size=8,
        normalisation=Normalisation((0.5,), (0.25,)),
        dataset="noise",
        test_accuracy=0.1,
        state=network.state_dict(),
    ).save(path)
    return path


@pytest.fixture
def ray_folder(monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """Ray's own folder, on a path short enough for the sockets that it makes there."""
    with tempfile.TemporaryDirectory(prefix="ray-", ignore_cleanup_errors=True) as folder:
        stay_on_loopback(Path(folder), monkeypatch)
        yield Path(folder)


@pytest.fixture
def token(ray_folder: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """What clusters and their clients, as processes of their own, must present to each other from now on."""
    return demand_token(ray_folder, monkeypatch)


@pytest.fixture
def cluster(ray_folder: Path) -> Iterator[Cluster]:
    """A head without CPUs, which notices a node's death after 3 s instead of Ray's 15."""
    noticing = {"health_check_period_ms": 1000, "health_check_failure_threshold": 3}
    cluster = Cluster()
    try:
        cluster.add_node(num_cpus=0, include_dashboard=False, _system_config=noticing)
        yield cluster
    finally:
        cluster.shutdown()


@pytest.mark.long
def test_a_sweep_goes_on_as_nodes_are_added_given_notice_and_killed(cluster: Cluster, teacher: Path, tmp_path: Path) -> None:
    launch, log = tmp_path / "runs" / "tiny", tmp_path / "driver.log"
    first = cluster.add_node(num_cpus=1)
    driver = start("sweep", study_file(tmp_path, teacher, trials=3), "--address", cluster.address, cwd=tmp_path)
    try:
        (killed,) = until(lambda: trials_under_way(launch, first), driver, log=log)
        with held(first):  # trials must not be over before their node goes, however fast this machine is
            second = cluster.add_node(num_cpus=1)
            (preempted,) = until(lambda: trials_under_way(launch, second), driver, log=log)
            with held(second):
                third = cluster.add_node(num_cpus=1)
                until(lambda: trials_under_way(launch, third), driver, log=log)
            epoch = last_epoch(launch, preempted)
            give_notice(cluster, second)
            until(lambda: last_epoch(launch, preempted) > epoch, driver, log=log)  # a notice alone stops nothing
            kill(cluster, second)
            kill(cluster, first)
        assert driver.wait(300) == 0, log.read_text()[-3000:]
    finally:
        end(driver, signal.SIGKILL)

    assert num_starts(launch, preempted) >= 2
    assert num_starts(launch, killed) >= 2
    check_whole(launch, trials=3)
    study = load_study(launch / "study.yaml")
    alone = repeat_alone(study, history_of(launch).trials[killed].point, epochs=study.config.epochs)
    for metric, curve in recorded_curves(launch.parent)[killed].items():
        assert curve == alone[metric], f"{metric} differs from the undisturbed trial's"


@pytest.mark.long
def test_nodes_come_with_a_sweep_and_go_when_it_is_over(ray_folder: Path, teacher: Path, tmp_path: Path, token: str) -> None:
    scaling = {"max_workers": 2, "idle_timeout_minutes": 0.05}
    launch, log = tmp_path / "runs" / "tiny", tmp_path / "driver.log"
    with head(ray_folder, "--include-dashboard=false", cpus=0, scaling=scaling) as ray_head:
        assert not ray_head.workers()
        driver = start("sweep", study_file(tmp_path, teacher, trials=2, epochs=2), "--address", ray_head.address, cwd=tmp_path)
        try:
            until(lambda: len(ray_head.workers()) == 2, driver, log=log)
            assert driver.wait(300) == 0, log.read_text()[-3000:]
        finally:
            end(driver, signal.SIGKILL)
        until(lambda: not ray_head.workers(), ray_head.process, log=ray_folder / "head.log")
    check_whole(launch, trials=2)


@pytest.mark.long
def test_a_job_that_is_stopped_ends_in_order_and_can_be_resumed(
    ray_folder: Path, teacher: Path, tmp_path: Path, token: str
) -> None:
    file, launch = study_file(tmp_path, teacher, trials=2, epochs=3), tmp_path / "runs" / "tiny"
    stopping = {"RAY_JOB_STOP_SIGNAL": "SIGINT", "RAY_JOB_STOP_WAIT_TIME_S": "120"}  # as cluster.yaml has it
    command = shlex.join([sys.executable, "-m", "tuning", "sweep", str(file), "--address", "auto", "--quiet"])
    with head(ray_folder, cpus=1) as ray_head:
        jobs = JobSubmissionClient(ray_head.dashboard, headers={"Authorization": f"Bearer {token}"})
        job = jobs.submit_job(entrypoint=command, runtime_env={"working_dir": str(ROOT), "env_vars": stopping})
        until(lambda: count_epochs(launch) >= 1, ray_head.process, log=ray_folder / "head.log")
        jobs.stop_job(job)
        until(lambda: jobs.get_job_status(job) is JobStatus.STOPPED, ray_head.process, log=ray_folder / "head.log")
        said = jobs.get_job_logs(job)
        assert "continue with: cpsc-tune resume tiny" in said, said
        assert statuses(launch.parent)["tiny"] == "KILLED"
        assert "RUNNING" not in statuses(launch.parent).values()
        ended = {trial.outcome for trial in history_of(launch).trials.values() if trial.values}
        assert Outcome.INTERRUPTED in ended
        assert None not in ended, "a trial that had begun has no end"

        driver = start("resume", "tiny", "--storage", tmp_path / "runs", "--address", ray_head.address, cwd=tmp_path)
        try:
            assert driver.wait(300) == 0, (tmp_path / "driver.log").read_text()[-3000:]
        finally:
            end(driver, signal.SIGKILL)
    check_whole(launch, trials=2)


def study_file(folder: Path, teacher: Path, *, trials: int, epochs: int = 5) -> Path:
    """A study without pruning, so that every trial lasts long enough to be hit."""
    study: dict[str, Any] = slow_study(folder, teacher=teacher)
    study["config"]["epochs"] = epochs
    study["prune"] = {"scheduler": "none"}
    study["search"] = {"num_trials": trials, "startup_trials": trials, "seed": 0, "max_concurrent": 3}
    return write_study(folder / "tiny.yaml", study)


def check_whole(launch: Path, *, trials: int) -> None:
    """Every trial was completed, and each of its epochs is in the journal and in MLflow once."""
    history = history_of(launch)
    assert sorted(history.trials) == list(range(trials))
    assert {trial.outcome for trial in history.trials.values()} == {Outcome.COMPLETED}
    epochs = list(range(1, load_study(launch / "study.yaml").config.epochs + 1))
    curves = recorded_curves(launch.parent)
    for number in history.trials:
        assert [epoch for of, epoch, _ in history.results if of == number] == epochs
        for metric, curve in curves[number].items():
            assert [epoch for epoch, _ in curve] == epochs, f"trial {number} {metric}"
    assert set(statuses(launch.parent).values()) == {"FINISHED"}


def history_of(launch: Path) -> LaunchHistory:
    return replay_events(Journal(launch).events(), metric="best_probe_agreement")


def trials_under_way(launch: Path, node: Any) -> list[int]:
    """The trial that runs on `node`, once it has an epoch behind it."""
    trials = history_of(launch).trials
    return [number for number in trial_processes(raylet(node)) if trials[number].values and not trials[number].is_over]


@contextmanager
def held(node: Any) -> Iterator[None]:
    """The trial on `node` stands still."""
    workers = trial_processes(raylet(node))
    for worker in workers.values():
        worker.suspend()
    try:
        yield
    finally:
        for worker in workers.values():
            with suppress(psutil.NoSuchProcess):  # its node has been killed
                worker.resume()


def kill(cluster: Cluster, node: Any) -> None:
    """End a node as a power cut does: nothing on it has a last word."""
    workers = trial_processes(raylet(node)).values()
    cluster.remove_node(node, allow_graceful=False)
    for worker in workers:
        with suppress(psutil.NoSuchProcess):  # it ended when its raylet did
            worker.kill()


def last_epoch(launch: Path, number: int) -> int:
    return history_of(launch).trials[number].last_epoch


def num_starts(launch: Path, number: int) -> int:
    return sum(isinstance(event, TrialStart) and event.number == number for event in Journal(launch).events())


def raylet(node: Any) -> int:
    return int(node.all_processes[PROCESS_TYPE_RAYLET][0].process.pid)


def give_notice(cluster: Cluster, node: Any) -> None:
    """Drain `node`, as ``ray drain-node`` does when a cloud announces that it takes a machine back."""
    reason = autoscaler_pb2.DrainNodeReason.Value("DRAIN_NODE_REASON_PREEMPTION")
    deadline_ms = int((time.time() + 30) * 1000)
    accepted, why_not = cluster.head_node.get_gcs_client().drain_node(node.node_id, reason, "announced", deadline_ms)
    assert accepted, why_not
    assert node.node_id in cluster.global_state.get_draining_nodes()
