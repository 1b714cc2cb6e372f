"""The making of a probe set, which takes long: what has been made is kept, so that whoever was interrupted goes on from there."""

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
"""What an interruption costs at most. To write the state takes some hundredths of a second."""


def make_probe(teacher: Teacher, config: ProbeConfig, storage: Storage, name: str, device: torch.device, display: Display) -> None:
    """Synthesise the probe set of `teacher` into `name` of `storage`, from where an earlier process was interrupted at it.

    Bit for bit what an uninterrupted one makes.
    """
    unfinished = f"{name.removesuffix('.pt')}.unfinished.pt"
    begun = _begun(teacher, config, storage, unfinished, device)
    total = config.num_images // config.batch_size * config.steps
    if begun is not None:
        display.say(f"probe set: goes on after step {begun.done} of {total}, where it was interrupted")
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
    """What an earlier process has kept; None where there is nothing, or nothing that can be gone on with."""
    if not storage.exists(name):
        return None
    with suppress(CheckpointError), storage.reading(storage.path(name)) as path:
        return UnfinishedProbe.load(path, teacher, config, device)
    return None


class _Keeper:
    """Writes the state to `name` now and then."""

    def __init__(self, storage: Storage, name: str) -> None:
        self._storage, self._name = storage, name
        self._last = time.monotonic()

    def __call__(self, state: Callable[[], UnfinishedProbe]) -> None:
        if time.monotonic() - self._last >= KEPT_EVERY_S:
            with self._storage.writing(self._name) as path:
                state().save(path)
            self._last = time.monotonic()

    def forget(self) -> None:
        """The probe set is there."""
        with suppress(ConfigError):  # it is whole; what is left behind does no harm
            if self._storage.exists(self._name):
                self._storage.delete(self._name)
