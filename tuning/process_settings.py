"""Variables and log levels of this process, for the length of a block: a program that calls this one keeps its own."""

import logging
import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager

from cpsc.processors import BUSY, load_per_processor


@contextmanager
def variables(values: Mapping[str, str]) -> Iterator[None]:
    """The environment has these `values` within the block, and for processes that are started there."""
    before = {name: os.environ.get(name) for name in values}
    os.environ.update(values)
    try:
        yield
    finally:
        _restore(before)


@contextmanager
def environment_kept() -> Iterator[None]:
    """After the block the environment is as it was, whatever a library has set in it."""
    before = dict(os.environ)
    try:
        yield
    finally:
        _restore({name: before.get(name) for name in before.keys() | os.environ.keys()})


def _restore(before: Mapping[str, str | None]) -> None:
    for name, value in before.items():
        if value is None:
            os.environ.pop(name, None)
        else:
            os.environ[name] = value


def unless_set(values: Mapping[str, str]) -> dict[str, str]:
    """Those of `values` that the user has not set."""
    return {name: value for name, value in values.items() if name not in os.environ}


def yielding_threads() -> dict[str, str]:
    """Variables by which threads that compute together sleep while they wait for each other, where the machine is busy.

    Elsewhere none: waking takes time. It changes no number. OpenMP reads them as it is loaded, with PyTorch.
    """
    return unless_set({"OMP_WAIT_POLICY": "passive"}) if load_per_processor() >= BUSY else {}


@contextmanager
def log_levels(levels: Mapping[str, int]) -> Iterator[None]:
    """Loggers, by name, have these levels within the block. A library that sets its own as it is imported has been imported."""
    before = {name: logging.getLogger(name).level for name in levels}
    for name, level in levels.items():
        logging.getLogger(name).setLevel(level)
    try:
        yield
    finally:
        for name, level in before.items():
            logging.getLogger(name).setLevel(level)
