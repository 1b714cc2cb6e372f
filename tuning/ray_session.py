"""Ray for the length of a sweep, and what this machine can hold."""

import gc
import logging
import os
import signal
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import ray
import torch

from cpsc.errors import ConfigError
from cpsc.processors import num_processors
from tuning.assets import study_device
from tuning.config import Study


def check_resources(study: Study, address: str | None) -> int | None:
    """Trials at a time; ConfigError where this machine, unless a cluster is named, cannot hold even one."""
    if address is not None:
        return study.search.max_concurrent
    study_device(study)
    return concurrency(study)


def concurrency(study: Study) -> int:
    """Trials at a time on this machine; ConfigError where not even one fits."""
    resources = study.resources
    cpus = num_processors()
    if resources.cpus > cpus:
        raise ConfigError(f"resources.cpus: {resources.cpus} asked for per trial, this process may use {cpus}")
    fitting = cpus // resources.cpus
    if resources.gpus:
        fitting = min(fitting, int(torch.cuda.device_count() / resources.gpus))
    return min(fitting, study.search.max_concurrent or fitting, study.search.num_trials)


@contextmanager
def ray_running(address: str | None) -> Iterator[None]:
    """Ray for the length of the block: a cluster at `address`, or this machine alone, on loopback, without a dashboard."""
    options: dict[str, Any] = {"log_to_driver": False, "logging_level": logging.ERROR}
    if address is not None:
        ray.init(address=address, **options)
    else:
        ray.init(address="local", include_dashboard=False, num_cpus=num_processors(), **options)
    try:
        yield
    finally:
        gc.collect()  # a reference to Ray's objects that is dropped after the shutdown ends the process at once, with status 1
        ray.shutdown()


@contextmanager
def terminating_like_ctrl_c() -> Iterator[None]:
    """SIGTERM, which clusters and service managers send, ends a sweep in order, as Ctrl-C does."""

    def interrupt(signum: int, frame: Any) -> None:
        os.kill(os.getpid(), signal.SIGINT)

    before = signal.signal(signal.SIGTERM, interrupt)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)
