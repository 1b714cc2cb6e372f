"""Ray clusters on this machine: on loopback only, in a folder of their own, every process ended by its id."""

import json
import os
import secrets
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psutil
import pytest

from tests.support.studies import ROOT

RAY = [sys.executable, "-m", "ray.scripts.scripts"]
FAKE_HEAD_ID = "f" * 51 + "00000"
"""What Ray's provider of fake nodes calls the head."""


def stay_on_loopback(folder: Path, patch: pytest.MonkeyPatch) -> None:
    """Give this process, and all that it starts, a Ray of their own in `folder`, which no other machine can reach.

    Ray takes 127.0.0.1 for the machine's outer address, except where its switch for desktops forbids clusters.
    """
    patch.setenv("RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER", "0")
    patch.setattr("ray._private.ray_constants.ENABLE_RAY_CLUSTER", False)  # read from it when Ray was imported
    patch.setenv("RAY_TMPDIR", str(folder))
    patch.delenv("RAY_ADDRESS", raising=False)
    patch.setenv("PYTHONPATH", str(ROOT))


def demand_token(folder: Path, patch: pytest.MonkeyPatch) -> str:
    """Clusters and drivers started from now on use a token of their own, whatever lies in the home directory."""
    token = secrets.token_hex(32)
    file = folder / "token"
    file.touch(mode=0o600)
    file.write_text(token)
    patch.setenv("RAY_AUTH_MODE", "token")
    patch.setenv("RAY_AUTH_TOKEN_PATH", str(file))
    patch.delenv("RAY_AUTH_TOKEN", raising=False)
    return token


@dataclass(frozen=True)
class Head:
    """A head that ``ray start`` has started, with the fake nodes that its autoscaler starts."""

    process: subprocess.Popen[bytes]
    address: str
    dashboard: str

    def workers(self) -> list[psutil.Process]:
        """The raylets of the nodes besides the head's own."""
        raylets = [process for process in _descendants(self.process.pid) if _name(process) == "raylet"]
        return [raylet for raylet in raylets if raylet.ppid() != self.process.pid]


@contextmanager
def head(folder: Path, *options: str, cpus: int, scaling: dict[str, Any] | None = None) -> Iterator[Head]:
    """A head node in a process of its own, for the length of the block; `scaling`: keys of a cluster file."""
    port, client_port, dashboard_port = _free_ports(3)
    command = [*RAY, "start", "--head", "--block", f"--num-cpus={cpus}", "--num-gpus=0", "--disable-usage-stats", *options]
    command += [f"--port={port}", f"--ray-client-server-port={client_port}", f"--dashboard-port={dashboard_port}"]
    command += ["--dashboard-host=127.0.0.1", "--dashboard-agent-listen-port=0", "--min-worker-port=0", "--max-worker-port=0"]
    command += [f"--object-store-memory={150 * 2**20}"]
    environment = os.environ | {"RAY_GRACEFUL_SHUTDOWN_DRAIN_TIMEOUT_S": "0"}
    if scaling is not None:
        file = folder / "cluster.json"
        file.write_text(json.dumps(_cluster_file(scaling, f"127.0.0.1:{port}")), encoding="utf-8")
        command += [f"--autoscaling-config={file}"]
        environment |= {"RAY_FAKE_CLUSTER": "1", "RAY_enable_autoscaler_v2": "1", "AUTOSCALER_UPDATE_INTERVAL_S": "1"}
        environment |= {"RAY_CLOUD_INSTANCE_ID": FAKE_HEAD_ID, "RAY_OVERRIDE_NODE_ID_FOR_TESTING": FAKE_HEAD_ID}
    log = folder / "head.log"
    with log.open("wb") as output:
        process = subprocess.Popen(command, cwd=folder, env=environment, stdout=output, stderr=output, stdin=subprocess.DEVNULL)
    try:
        until(lambda: "Ray runtime started" in log.read_text(), process, log=log)
        yield Head(process, f"127.0.0.1:{port}", f"http://127.0.0.1:{dashboard_port}")
    finally:
        _end_all(process)


def until(condition: Callable[[], Any], process: subprocess.Popen[bytes], *, log: Path, timeout_s: float = 180) -> Any:
    """Wait for `condition` and return what it gave; AssertionError with the log's end where `process` ends before, or time."""
    deadline = time.monotonic() + timeout_s
    while not (result := condition()):
        assert process.poll() is None, f"ended with {process.returncode}: {log.read_text()[-3000:]}"
        assert time.monotonic() < deadline, f"not within {timeout_s:.0f} s: {log.read_text()[-3000:]}"
        time.sleep(0.05)
    return result


def trial_processes(raylet: int) -> dict[int, psutil.Process]:
    """The workers of a node that have taken up a trial, by its number: Tune runs each trial in a folder of its own."""
    found = {}
    for process in psutil.Process(raylet).children():
        with suppress(psutil.Error):  # it has just ended
            folder = Path(process.cwd()).name
            if folder.startswith("trial-"):
                found[int(folder.removeprefix("trial-"))] = process
    return found


def _cluster_file(scaling: dict[str, Any], address: str) -> dict[str, Any]:
    """A cluster file whose nodes are processes on this machine. For a provider that Ray does not know it has no defaults."""
    provider = {
        "type": "external",
        "module": "ray.autoscaler._private.fake_multi_node.node_provider.FakeMultiNodeProvider",
        "gcs_address": address,
        "head_node_id": FAKE_HEAD_ID,
        "launch_multiple": True,
    }
    node_types = {
        "ray.head.default": {"resources": {"CPU": 0}, "node_config": {}, "max_workers": 0},
        "worker": {"resources": {"CPU": 1}, "node_config": {}, "min_workers": 0, "max_workers": scaling["max_workers"]},
    }
    commands: dict[str, Any] = {"setup_commands": [], "head_setup_commands": [], "worker_setup_commands": []}
    nodes = {"head_node_type": "ray.head.default", "available_node_types": node_types}
    return {"cluster_name": "local", "provider": provider, "cluster_synced_files": []} | commands | nodes | scaling


def _end_all(process: subprocess.Popen[bytes]) -> None:
    """End `process` and all below it; fake nodes have no parent that would do it for them."""
    below = _descendants(process.pid)
    process.terminate()
    try:
        process.wait(20)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait(10)
    _, left = psutil.wait_procs(below, timeout=5)
    left += [process for survivor in left for process in _descendants(survivor.pid) if process not in left]
    for survivor in left:
        with suppress(psutil.NoSuchProcess):
            survivor.kill()
    psutil.wait_procs(left, timeout=5)


def _descendants(pid: int) -> list[psutil.Process]:
    try:
        return psutil.Process(pid).children(recursive=True)
    except psutil.NoSuchProcess:
        return []


def _name(process: psutil.Process) -> str:
    try:
        return "" if process.status() == psutil.STATUS_ZOMBIE else process.name()
    except psutil.NoSuchProcess:
        return ""


def _free_ports(count: int) -> list[int]:
    """Ports that nobody listens on, all different, for they are held until all are found."""
    sockets = [socket.socket() for _ in range(count)]
    try:
        for probe in sockets:
            probe.bind(("127.0.0.1", 0))
        return [int(probe.getsockname()[1]) for probe in sockets]
    finally:
        for probe in sockets:
            probe.close()
