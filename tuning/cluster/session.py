"""Starting and stopping Ray for a sweep."""

import gc
import logging
import os
import signal
import tempfile
import threading
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import ray

from cpsc.errors import ConfigError
from cpsc.processors import num_processors
from tuning.cluster.address import authenticating_as, authentication_mode
from tuning.cluster.ray_compat import no_sigterm_handler_of_ray, on_loopback_only
from tuning.interruption import is_main_thread
from tuning.process_settings import environment_kept, log_levels, unless_set, variables
from tuning.redaction import reason

VARIABLES = {
    "RAY_AIR_NEW_OUTPUT": "0",  # the new output ignores reporters and prints boxes
    "TUNE_DISABLE_AUTO_CALLBACK_LOGGERS": "1",  # JSON, CSV and TensorBoard files per trial, which MLflow has anyway
    "TUNE_GLOBAL_CHECKPOINT_S": "600",  # snapshots, which are not used to rebuild a launch
    "RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO": "0",
}
SYSTEM_CONFIG = {
    "worker_niceness": 0,  # Ray's 15 would leave trials a thirtieth of a processor that anything else wants; a sweep can be niced
    "enable_metrics_collection": False,  # nobody reads the metrics here, and their port requires no token
    "prestart_worker_first_driver": False,  # one worker per processor that no trial uses: Tune's need their own environment
}
LOG_LEVELS = {"ray.tune": logging.CRITICAL, "optuna._gp": logging.ERROR}
"""The sweep itself reports failed trials, one line each; convergence warnings of Optuna's Gaussian process help nobody."""
_ONE_AT_A_TIME = threading.Lock()
"""A process can run Ray only once, and also shares its environment and log levels."""


class RaySession:
    """Ray within a ``with`` block, from the first `start` on: a cluster at `address`, or this machine alone.

    Entering it raises ConfigError if another thread of this process has a session, or if Ray is already running in the process.
    """

    def __init__(self, address: str | None) -> None:
        self._address = address
        self._is_begun = False
        self._settings = ExitStack()

    def start(self) -> None:
        """Start or join Ray, once. ConfigError in one line if Ray fails; KeyboardInterrupt after the start if a signal came.

        Call it before any long work, so that failures of Ray do not come after the work.
        """
        if self._is_begun:
            return
        self._is_begun = True
        with _signals_noted() as noted:
            try:
                self._init()
            except Exception as error:  # from Ray, gRPC, or the system
                self.stop()
                raise ConfigError(f"Ray cannot {self._what()}: {reason(error)}{_way_out(error)}") from error
        if noted:
            raise KeyboardInterrupt

    def _init(self) -> None:
        options: dict[str, Any] = {"log_to_driver": False, "logging_level": logging.ERROR}
        if self._address is not None:
            self._settings.enter_context(authenticating_as(authentication_mode(self._address)))
            ray.init(address=self._address, **options)
            return
        with on_loopback_only():
            ray.init(address="local", include_dashboard=False, num_cpus=num_processors(), _system_config=SYSTEM_CONFIG, **options)

    def _what(self) -> str:
        return "start on this machine" if self._address is None else f"join the cluster at {self._address}"

    def __enter__(self) -> "RaySession":
        self._settings.enter_context(_alone_in_this_process())
        self._settings.enter_context(environment_kept())  # among others, Ray redirects breakpoint() to its own debugger
        self._settings.enter_context(variables(unless_set(VARIABLES)))
        self._settings.enter_context(log_levels(LOG_LEVELS))
        return self

    def __exit__(self, *error: object) -> None:
        with self._settings:
            self.stop()

    def stop(self) -> None:
        """Shut Ray down, or leave the cluster. Safe if it was never started, failed halfway, or was stopped before."""
        if not self._is_begun:
            return
        gc.collect()  # dropping a reference to a Ray object after the shutdown would end the process with status 1
        ray.shutdown()
        self._is_begun = False


@contextmanager
def _alone_in_this_process() -> Iterator[None]:
    way_out = "or run this one in its own process, with cpsc-tune"
    if not _ONE_AT_A_TIME.acquire(blocking=False):
        raise ConfigError(f"another sweep is running in this process, which can run Ray only once: wait for its end, {way_out}")
    try:
        if ray.is_initialized():
            raise ConfigError(
                f"Ray is already running in this process, and a sweep starts its own: call ray.shutdown() first, {way_out}"
            )
        yield
    finally:
        _ONE_AT_A_TIME.release()


@contextmanager
def _signals_noted() -> Iterator[list[int]]:
    """Yields a list of the SIGINT and SIGTERM that arrive within the block: Ray could swallow the exceptions they raise."""
    noted: list[int] = []
    if not is_main_thread():
        yield noted
        return
    before = {which: signal.signal(which, lambda signum, frame: noted.append(signum)) for which in (signal.SIGINT, signal.SIGTERM)}
    try:
        with no_sigterm_handler_of_ray():
            yield noted
    finally:
        for which, handler in before.items():
            signal.signal(which, handler)


def _way_out(error: Exception) -> str:
    """What the user can do about the error, if known."""
    if "AF_UNIX" in str(error):
        return "; its sockets are in TMPDIR: set RAY_TMPDIR to a shorter path, e.g. RAY_TMPDIR=/tmp"
    if "timed out during startup" in str(error):  # after 30 s, which cannot be set
        return " If other programs keep this machine busy, try again when they have ended, or give this one a higher priority."
    file = getattr(error, "filename", None)
    if not isinstance(file, str):
        return ""
    if Path(file).is_relative_to(os.environ.get("RAY_TMPDIR") or tempfile.gettempdir()):
        return "; its files are there: set RAY_TMPDIR to a writable folder"
    return "; if this is about its token: set RAY_AUTH_TOKEN_PATH to a writable file"


@contextmanager
def terminating_like_ctrl_c() -> Iterator[None]:
    """Make SIGTERM, which clusters and service managers send, end a sweep cleanly, like Ctrl-C.

    This also works if SIGINT is ignored, as for a script's background job: Tune then still hears it through its own handler.
    """
    if not is_main_thread():
        yield
        return

    def interrupt(signum: int, frame: Any) -> None:
        if signal.getsignal(signal.SIGINT) == signal.SIG_IGN:
            raise KeyboardInterrupt
        os.kill(os.getpid(), signal.SIGINT)

    before = signal.signal(signal.SIGTERM, interrupt)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)
