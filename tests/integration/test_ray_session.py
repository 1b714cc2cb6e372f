"""Ray on this machine: where its ports listen, what it refuses, and when it is asked."""

import os
import signal
import threading
import time
from pathlib import Path
from typing import Any

import psutil
import pytest
import ray
from ray._private import ray_constants

from cpsc.errors import ConfigError
from tests.support.studies import write_study
from tuning.cluster.session import RaySession, terminating_like_ctrl_c
from tuning.display import Display
from tuning.study import load_study
from tuning.sweep import run_sweep

pytestmark = pytest.mark.ray
LOOPBACK = ("127.0.0.1", "::1", "::ffff:127.0.0.1")


def addresses_listened_on() -> set[tuple[str, int]]:
    """By this process and all that it has started."""
    this = psutil.Process()
    return {
        (connection.laddr.ip, connection.laddr.port)
        for process in (this, *this.children(recursive=True))
        for connection in process.net_connections(kind="inet")
        if connection.status == psutil.CONN_LISTEN
    }


@pytest.mark.filterwarnings("ignore::ResourceWarning", "ignore::pytest.PytestUnraisableExceptionWarning")  # Ray's own Popens
def test_a_local_ray_listens_on_loopback_alone_and_leaves_the_environment_as_it_was() -> None:
    before, environment = addresses_listened_on(), dict(os.environ)
    with RaySession(None) as session:
        session.start()
        session.start()  # as sweep and assets both do
        worker, niceness = ray.get(ray.remote(lambda: (os.getpid(), os.nice(0))).remote())
        assert worker != os.getpid(), "a worker is up, with its own ports"
        assert niceness == os.nice(0), "beside other programs, trials have the priority of their sweep"
        opened = addresses_listened_on() - before
        assert opened, "Ray has ports, and they were looked at"
        assert {address for address, _ in opened} <= set(LOOPBACK)
    assert ray_constants.ENABLE_RAY_CLUSTER, "a cluster that is joined later goes by its own addresses"
    assert dict(os.environ) == environment, "breakpoint() is the caller's again, among others"


def test_what_ray_refuses_is_told_in_a_line_before_a_teacher_is_trained(
    tmp_path: Path, study: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    long = tmp_path / ("x" * 70)
    long.mkdir()
    monkeypatch.setenv("TMPDIR", str(long))
    loaded = load_study(write_study(tmp_path / "tiny.yaml", study | {"storage": str(tmp_path / "runs")}))
    with pytest.raises(ConfigError, match=r"^Ray cannot start on this machine: .*AF_UNIX.*; .* RAY_TMPDIR=/tmp$"):
        run_sweep(loaded, Display(quiet=True))
    assert not list(tmp_path.glob("runs/**/*.pt")), "neither teacher nor probe set was made"
    assert not (tmp_path / "runs" / "tiny").exists()


def test_a_folder_that_ray_cannot_write_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = tmp_path / "file"
    file.touch()
    monkeypatch.setenv("RAY_TMPDIR", str(file))
    with RaySession(None) as session, pytest.raises(ConfigError, match=rf"{file}/ray.*RAY_TMPDIR"):
        session.start()


def test_a_start_that_takes_too_long_says_why_it_may_and_what_to_do(monkeypatch: pytest.MonkeyPatch) -> None:
    def give_up(*_: Any, **__: Any) -> None:
        raise Exception("The current node timed out during startup. The GCS has become overloaded.")

    monkeypatch.setattr(ray, "init", give_up)
    with RaySession(None) as session, pytest.raises(ConfigError, match=r"overloaded\. If other programs keep .* busy, try again"):
        session.start()


def test_a_sweep_may_run_beside_the_main_thread() -> None:
    """Where no signal can be handled."""
    failures: list[BaseException] = []

    def run() -> None:
        try:
            with terminating_like_ctrl_c():
                pass
        except BaseException as error:
            failures.append(error)

    thread = threading.Thread(target=run)
    thread.start()
    thread.join()
    assert not failures


def be_told_to_end() -> None:
    """And wait for it: a signal that is passed on may come a moment later."""
    os.kill(os.getpid(), signal.SIGTERM)
    time.sleep(10)


@pytest.mark.parametrize("in_a_scripts_background", [False, True])
def test_a_sweep_that_is_told_to_end_ends_also_where_ctrl_c_is_ignored(in_a_scripts_background: bool) -> None:
    before = signal.signal(signal.SIGINT, signal.SIG_IGN if in_a_scripts_background else signal.default_int_handler)
    try:
        with pytest.raises(KeyboardInterrupt), terminating_like_ctrl_c():
            be_told_to_end()
    finally:
        signal.signal(signal.SIGINT, before)
