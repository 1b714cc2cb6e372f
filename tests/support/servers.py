"""Tracking servers of the tests' own, on loopback: started, stopped, hung and started again at will."""

import os
import pwd
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import psycopg2
from mlflow import MlflowClient
from mlflow.entities import Run

from tuning.launch import Journal
from tuning.launch.events import Epoch, Event, LaunchStart, TrialEnd, TrialStart
from tuning.outcome import MLFLOW_STATUS


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


class MlflowServer:
    """``mlflow server`` at an address of its own, on a SQLite file in `folder` or on `backend`. Not running until started."""

    def __init__(self, folder: Path, *, backend: str | None = None, port: int | None = None) -> None:
        self.folder = folder
        self.port = port or free_port()
        self.uri = f"http://127.0.0.1:{self.port}"
        self._backend = backend or f"sqlite:///{folder / 'mlflow.db'}"
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        """Return when it answers."""
        self.folder.mkdir(exist_ok=True)
        command = [sys.executable, "-m", "mlflow", "server", "--host", "127.0.0.1", "--port", str(self.port), "--workers", "1"]
        command += ["--backend-store-uri", self._backend, "--artifacts-destination", str(self.folder / "artifacts")]
        environment = os.environ | {"MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false"}  # seven processes that nothing here needs
        with (self.folder / "server.log").open("ab") as log:
            self._process = subprocess.Popen(
                command, cwd=self.folder, env=environment, stdout=log, stderr=log, start_new_session=True
            )
        self._wait()

    def ensure(self) -> None:
        """Start it unless it runs."""
        if self._process is None:
            self.start()

    def _wait(self, *, timeout_s: float = 120) -> None:
        deadline = time.monotonic() + timeout_s
        while not self.answers():
            if time.monotonic() > deadline or self._process is None or self._process.poll() is not None:
                raise TimeoutError((self.folder / "server.log").read_text()[-2000:])
            time.sleep(0.1)

    def answers(self) -> bool:
        try:
            with urllib.request.urlopen(f"{self.uri}/health", timeout=2) as answer:
                return bool(answer.status == 200)
        except OSError:
            return False

    def kill(self) -> None:
        """SIGKILL, with all the processes it has started. Nothing where it does not run."""
        if self._process is not None:
            os.killpg(self._process.pid, signal.SIGKILL)
            self._process.wait(30)
            self._process = None

    def hang(self, seconds: float) -> None:
        """For so long it takes connections and answers none."""
        assert self._process is not None
        group = self._process.pid
        os.killpg(group, signal.SIGSTOP)
        threading.Timer(seconds, os.killpg, (group, signal.SIGCONT)).start()


@contextmanager
def mlflow_server(folder: Path, *, backend: str | None = None, port: int | None = None) -> Iterator[MlflowServer]:
    """A server that is not started yet, and killed with the block's end."""
    server = MlflowServer(folder, backend=backend, port=port)
    try:
        yield server
    finally:
        server.kill()


class Postgres:
    """A PostgreSQL cluster in a folder of its own, on a socket in it: no port. Not running until started."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._user = _unprivileged_user()
        self._process: subprocess.Popen[bytes] | None = None
        self._dsn = f"host={folder} user=postgres dbname=postgres"
        self.uri = f"postgresql+psycopg2://postgres@/postgres?host={folder}"

    @staticmethod
    def missing() -> str:
        """Why there can be none here; empty where there can."""
        absent = [name for name in ("initdb", "postgres") if shutil.which(name) is None]
        return f"{', '.join(absent)} not installed" if absent else ""

    def create(self) -> None:
        if self._user is not None:
            shutil.chown(self._folder, self._user)
        options = ["--auth=trust", "--username=postgres", "--encoding=UTF8", "--locale=C", "--no-sync"]
        subprocess.run(
            ["initdb", "-D", self._data, *options], user=self._user, cwd="/", check=True, capture_output=True, timeout=120
        )

    def start(self, *, timeout_s: float = 60) -> None:
        settings = ["listen_addresses=", f"unix_socket_directories={self._folder}", "fsync=off"]
        command = ["postgres", "-D", self._data, *(part for setting in settings for part in ("-c", setting))]
        with (self._folder / "postgres.log").open("ab") as log:
            self._process = subprocess.Popen(command, user=self._user, cwd="/", stdout=log, stderr=log, start_new_session=True)
        deadline = time.monotonic() + timeout_s
        while not self._answers():
            if time.monotonic() > deadline or self._process.poll() is not None:
                raise TimeoutError((self._folder / "postgres.log").read_text()[-2000:])
            time.sleep(0.1)

    def stop(self) -> None:
        """At once, as a crash would: whoever is connected loses the connection. Nothing where it does not run."""
        if self._process is not None:
            self._process.send_signal(signal.SIGQUIT)
            self._process.wait(30)
            self._process = None

    @property
    def _data(self) -> str:
        return str(self._folder / "data")

    def _answers(self) -> bool:
        try:
            psycopg2.connect(self._dsn).close()
        except psycopg2.OperationalError:
            return False
        return True


def _unprivileged_user() -> str | None:
    """Whom PostgreSQL runs as where we are root, whom it refuses; None: ourselves."""
    if os.getuid() != 0:
        return None
    known = {entry.pw_name for entry in pwd.getpwall()}
    return "postgres" if "postgres" in known else "nobody"


@contextmanager
def postgres() -> Iterator[Postgres]:
    """A running PostgreSQL. Its folder is not under pytest's, which only its owner may enter, and has a short path: a socket's."""
    with tempfile.TemporaryDirectory(prefix="pg-") as folder:
        server = Postgres(Path(folder))
        server.create()
        try:
            server.start()
            yield server
        finally:
            server.stop()


def differences(client: MlflowClient, folder: Path) -> list[str]:
    """Where a server differs from the journal of the launch in `folder`: runs, their ends, and every metric of each epoch, once."""
    events = list(Journal(folder).events())
    launch_id = next(event.launch_id for event in events if isinstance(event, LaunchStart))
    experiments = [experiment.experiment_id for experiment in client.search_experiments()]
    runs = client.search_runs(experiments, f"tags.launch_id = '{launch_id}'", max_results=1000)
    trials = {event.number for event in events if isinstance(event, TrialStart)}
    names, expected = (
        sorted(run.info.run_name.split()[0] for run in runs),
        sorted([*(f"trial-{number:03d}" for number in trials), folder.name]),
    )
    wrong = [] if names == expected else [f"runs {names} instead of {expected}"]
    for run in runs:
        if run.data.tags["kind"] == "launch":
            wrong += [] if run.info.status == "FINISHED" else [f"the launch is {run.info.status}"]
        else:
            number = int(run.data.tags["number"])
            wrong += _trial_differences(client, run, [event for event in events if event.number == number])
    return wrong


def _trial_differences(client: MlflowClient, run: Run, events: list[Event]) -> list[str]:
    name, wrong = run.info.run_name, []
    outcome = [event for event in events if isinstance(event, TrialEnd)][-1].outcome
    if (run.info.status, run.data.tags["outcome"]) != (MLFLOW_STATUS[outcome], outcome.value):
        wrong.append(f"{name} is {run.info.status}, {run.data.tags['outcome']}, not {outcome.value}")
    epochs = {event.epoch: event.metrics for event in events if isinstance(event, Epoch)}
    for metric in sorted(set().union(*epochs.values())):
        found = sorted((point.step, point.value) for point in client.get_metric_history(run.info.run_id, metric))
        if found != sorted((epoch, metrics[metric]) for epoch, metrics in epochs.items() if metric in metrics):
            wrong.append(f"{name} {metric}: {found} of {len(epochs)} epochs")
    return wrong
