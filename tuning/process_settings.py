"""Environment variables and log levels for the length of a block: a program that uses this package as a library keeps its own."""

import logging
import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager

from cpsc.processors import BUSY, load_per_processor


@contextmanager
def variables(values: Mapping[str, str]) -> Iterator[None]:
    """Set environment variables within the block, for this process and those that it starts there."""
    before = {name: os.environ.get(name) for name in values}
    os.environ.update(values)
    try:
        yield
    finally:
        _restore(before)


@contextmanager
def environment_kept() -> Iterator[None]:
    """Restore the environment after the block, whatever a library has set in it."""
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
    """On a busy machine, variables that make OpenMP threads sleep while they wait for each other.

    Otherwise none, since waking takes time. No number changes. OpenMP reads them when it is loaded, with PyTorch.
    """
    return unless_set({"OMP_WAIT_POLICY": "passive"}) if load_per_processor() >= BUSY else {}


@contextmanager
def log_levels(levels: Mapping[str, int]) -> Iterator[None]:
    """Set log levels by logger name within the block. Import a library before if it sets its own levels on import."""
    before = {name: logging.getLogger(name).level for name in levels}
    for name, level in levels.items():
        logging.getLogger(name).setLevel(level)
    try:
        yield
    finally:
        for name, level in before.items():
            logging.getLogger(name).setLevel(level)
