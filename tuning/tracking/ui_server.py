"""MLflow's own server for a study's store: on this machine only; its address is printed once it answers."""

import os
import signal
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from cpsc.errors import ConfigError
from tuning.process_settings import unless_set

HOST = "127.0.0.1"
POLL_S = 0.3
QUIET = "--log-level warning --no-access-log"
"""Otherwise the server's log of every request would follow the address."""
PLAIN = {"MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false", "PYTHONWARNINGS": "ignore"}
"""Leaves out seven processes that evaluate language models, and warnings of MLflow's libraries."""


def serve_ui(uri: str, port: int, page: str, say: Callable[[str], None]) -> int:
    """Serve the store at `uri` until the server ends or is stopped -> its exit status. ConfigError if `port` is taken.

    `page`: appended to the server's address, which is printed once the server answers.
    """
    check_free(port)
    say(f"starting MLflow's server for {uri}, which takes some seconds; stop it with Ctrl-C")
    address = ["--backend-store-uri", uri, "--host", HOST, "--port", str(port)]
    # One worker is enough for one reader; each of the default four would import all of MLflow first.
    command = [sys.executable, "-m", "mlflow", "ui", *address, "--workers", "1", "--uvicorn-opts", QUIET]
    with subprocess.Popen(command, env=os.environ | unless_set(PLAIN)) as server:
        with _ending(server):
            if _wait_until_healthy(server, port):
                say(f"http://{HOST}:{port}/{page}")
            server.wait()
        return server.wait()


def check_free(port: int) -> None:
    """Raise ConfigError if another program listens on `port`: its pages would be taken for MLflow's."""
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)  # as the server does: closed connections do not block it
        try:
            probe.bind((HOST, port))
        except OSError as error:
            raise ConfigError(f"--port {port}: cannot be opened ({error.strerror}); choose another port") from error


def _wait_until_healthy(server: "subprocess.Popen[bytes]", port: int) -> bool:
    """Wait until the server answers -> whether it did so before it ended."""
    while server.poll() is None:
        try:
            with urllib.request.urlopen(f"http://{HOST}:{port}/health", timeout=5) as answer:
                return bool(answer.status == 200)
        except OSError:
            time.sleep(POLL_S)
    return False


@contextmanager
def _ending(server: "subprocess.Popen[bytes]") -> Iterator[None]:
    """Stop the `server` when this process is told to stop: by SIGTERM, or by Ctrl-C, which ends the block."""

    def terminate(signum: int, frame: Any) -> None:
        server.terminate()

    before = signal.signal(signal.SIGTERM, terminate)
    try:
        yield
    except KeyboardInterrupt:
        server.terminate()
    finally:
        signal.signal(signal.SIGTERM, before)
