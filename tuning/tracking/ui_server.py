"""MLflow's own server on a study's store: on this machine only, and its address said once there is something to see at it."""

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
"""What the server says of every request would follow the address."""
PLAIN = {"MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false", "PYTHONWARNINGS": "ignore"}
"""Without seven processes that judge the answers of language models, and without what its libraries say of each other."""


def serve_ui(uri: str, port: int, page: str, say: Callable[[str], None]) -> int:
    """Serve the store at `uri` until the server ends, or is ended -> its exit status. ConfigError where `port` is taken.

    `page`: what follows the server's address; the whole of it is said last, when the server answers.
    """
    check_free(port)
    say(f"MLflow's server for {uri} starts, which takes some seconds; stop it with Ctrl-C")
    address = ["--backend-store-uri", uri, "--host", HOST, "--port", str(port)]
    # One worker: its reader is one, and each of the four by default imports all of MLflow first.
    command = [sys.executable, "-m", "mlflow", "ui", *address, "--workers", "1", "--uvicorn-opts", QUIET]
    with subprocess.Popen(command, env=os.environ | unless_set(PLAIN)) as server:
        with _ending(server):
            if _wait_until_healthy(server, port):
                say(f"http://{HOST}:{port}/{page}")
            server.wait()
        return server.wait()


def check_free(port: int) -> None:
    """ConfigError where another program listens at `port`, whose pages would be taken for ours."""
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)  # as the server does: connections that have ended hold none
        try:
            probe.bind((HOST, port))
        except OSError as error:
            raise ConfigError(f"--port {port}: cannot be listened at ({error.strerror}), name another one") from error


def _wait_until_healthy(server: "subprocess.Popen[bytes]", port: int) -> bool:
    """Whether it came to answer before it ended."""
    while server.poll() is None:
        try:
            with urllib.request.urlopen(f"http://{HOST}:{port}/health", timeout=5) as answer:
                return bool(answer.status == 200)
        except OSError:
            time.sleep(POLL_S)
    return False


@contextmanager
def _ending(server: "subprocess.Popen[bytes]") -> Iterator[None]:
    """The `server` ends where this process is told to: by SIGTERM, or by Ctrl-C, which ends the block."""

    def terminate(signum: int, frame: Any) -> None:
        server.terminate()

    before = signal.signal(signal.SIGTERM, terminate)
    try:
        yield
    except KeyboardInterrupt:
        server.terminate()
    finally:
        signal.signal(signal.SIGTERM, before)
