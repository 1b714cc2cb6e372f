"""Ray for the length of a sweep, and what this machine can hold."""

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
    "RAY_AIR_NEW_OUTPUT": "0",  # it ignores reporters and prints boxes
    "TUNE_DISABLE_AUTO_CALLBACK_LOGGERS": "1",  # JSON, CSV and TensorBoard files a trial: what MLflow holds
    "TUNE_GLOBAL_CHECKPOINT_S": "600",  # snapshots that no launch is rebuilt from
    "RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO": "0",
}
SYSTEM_CONFIG = {
    "enable_metrics_collection": False,  # they have no reader here, and their port asks for no token
    "prestart_worker_first_driver": False,  # a worker a processor that no trial takes: Tune's have an environment of their own
}
LOG_LEVELS = {"ray.tune": logging.CRITICAL, "optuna._gp": logging.ERROR}
"""Failures of trials are told by the sweep, in a line each; how fast Optuna's process converges concerns nobody."""
_ONE_AT_A_TIME = threading.Lock()
"""Ray is up once in a process, as are the environment and the log levels that are set for it."""


class RaySession:
    """Ray for the length of a ``with`` block, from the first `start` on: a cluster at `address`, or this machine alone.

    ConfigError at its beginning where another thread of this process has one, or where Ray is up for somebody else.
    """

    def __init__(self, address: str | None) -> None:
        self._address = address
        self._is_up = False
        self._settings = ExitStack()

    def start(self) -> None:
        """Start or join Ray, once. ConfigError, in a line, where it refuses; KeyboardInterrupt, once it is up, after a signal.

        Called before anything that takes long is begun, for what Ray refuses must not be learnt after the work.
        """
        if self._is_up:
            return
        with _signals_noted() as noted:
            try:
                self._init()
            except Exception as error:  # of Ray, gRPC, or the system
                raise ConfigError(f"Ray cannot {self._what()}: {reason(error)}{_way_out(error)}") from error
        self._is_up = True
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
        self._settings.enter_context(environment_kept())  # Ray takes breakpoint() for a debugger of its own, among others
        self._settings.enter_context(variables(unless_set(VARIABLES)))
        self._settings.enter_context(log_levels(LOG_LEVELS))
        return self

    def __exit__(self, *error: object) -> None:
        with self._settings:
            self.stop()

    def stop(self) -> None:
        """Shut Ray down, or leave the cluster, as far as it is up: it may have failed halfway, or have been stopped before."""
        gc.collect()  # a reference to Ray's objects that is dropped after the shutdown ends the process at once, with status 1
        ray.shutdown()
        self._is_up = False


@contextmanager
def _alone_in_this_process() -> Iterator[None]:
    way_out = "or run this one in a process of its own, by cpsc-tune"
    if not _ONE_AT_A_TIME.acquire(blocking=False):
        raise ConfigError(f"a sweep is under way in this process, and Ray can be up once in it: wait for its end, {way_out}")
    try:
        if ray.is_initialized():
            raise ConfigError(
                f"Ray is up in this process already, and a sweep starts its own: call ray.shutdown() before, {way_out}"
            )
        yield
    finally:
        _ONE_AT_A_TIME.release()


@contextmanager
def _signals_noted() -> Iterator[list[int]]:
    """Yields a list of the SIGINT and SIGTERM that arrive within the block: what they would raise there, Ray may swallow."""
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
    """What the user can do about it, where that is known."""
    if "AF_UNIX" in str(error):
        return "; its sockets lie in TMPDIR: name a shorter folder by RAY_TMPDIR, e.g. RAY_TMPDIR=/tmp"
    file = getattr(error, "filename", None)
    if not isinstance(file, str):
        return ""
    if Path(file).is_relative_to(os.environ.get("RAY_TMPDIR") or tempfile.gettempdir()):
        return "; its files lie there: name a folder that can be written by RAY_TMPDIR"
    return "; where that is about its token: name a file that can be written by RAY_AUTH_TOKEN_PATH"


@contextmanager
def terminating_like_ctrl_c() -> Iterator[None]:
    """SIGTERM, which clusters and service managers send, ends a sweep in order, as Ctrl-C does.

    Also where SIGINT is ignored, as in a script's background: then Tune hears it all the same, for it has a handler of its own.
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
