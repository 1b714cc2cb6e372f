"""Synthesis of a probe set. It takes long, so its state is saved now and then, and an interrupted synthesis continues from it."""

import time
from collections.abc import Callable
from contextlib import suppress

import torch

from cpsc.errors import CheckpointError, ConfigError
from cpsc.probe import ProbeConfig, UnfinishedProbe, synthesise
from cpsc.teacher import Teacher
from tuning.display import Display
from tuning.storage import Storage

KEPT_EVERY_S = 20.0
"""The most that an interruption can cost. Writing the state takes a few hundredths of a second."""


def make_probe(teacher: Teacher, config: ProbeConfig, storage: Storage, name: str, device: torch.device, display: Display) -> None:
    """Synthesise the probe set of `teacher` as `name` in `storage`, continuing where an earlier process was interrupted.

    The result is bit-identical to that of an uninterrupted synthesis.
    """
    unfinished = f"{name.removesuffix('.pt')}.unfinished.pt"
    begun = _begun(teacher, config, storage, unfinished, device)
    total = config.num_images // config.batch_size * config.steps
    if begun is not None:
        display.say(f"probe set: continues after step {begun.done} of {total}, where it was interrupted")
    keeper = _Keeper(storage, unfinished)
    with display.bar("probe set", total, done=begun.done if begun else 0) as advance:
        probe = synthesise(
            teacher,
            config,
            device,
            on_step=lambda done, total: advance(done, f"step {done} of {total}"),
            begun=begun,
            keep=keeper,
        )
    with storage.writing(name) as path:
        probe.save(path)
    keeper.forget()


def _begun(teacher: Teacher, config: ProbeConfig, storage: Storage, name: str, device: torch.device) -> UnfinishedProbe | None:
    """The state that an earlier process saved; None if there is none, or none that can be continued."""
    if not storage.exists(name):
        return None
    with suppress(CheckpointError), storage.reading(storage.path(name)) as path:
        return UnfinishedProbe.load(path, teacher, config, device)
    return None


class _Keeper:
    """Saves the state as `name` every `KEPT_EVERY_S` seconds."""

    def __init__(self, storage: Storage, name: str) -> None:
        self._storage, self._name = storage, name
        self._last = time.monotonic()

    def __call__(self, state: Callable[[], UnfinishedProbe]) -> None:
        if time.monotonic() - self._last >= KEPT_EVERY_S:
            with self._storage.writing(self._name) as path:
                state().save(path)
            self._last = time.monotonic()

    def forget(self) -> None:
        """Delete the state, as the probe set is complete."""
        with suppress(ConfigError):  # a state that is left behind does no harm
            if self._storage.exists(self._name):
                self._storage.delete(self._name)
