"""Explicit random streams: nothing in a training run draws from torch's global generator."""

import hashlib
from collections.abc import Iterator, Mapping
from contextlib import contextmanager

import torch
from torch import Tensor


def derive_seed(seed: int, name: str) -> int:
    """A seed for the stream called `name`, independent of the other streams of the same `seed`.

    The name is hashed, not added, so that neighbouring seeds share no stream.
    """
    digest = hashlib.sha256(f"{seed}/{name}".encode()).digest()
    return int.from_bytes(digest[:8], "little") >> 1  # torch takes signed 64-bit seeds


def stream(seed: int, name: str, device: torch.device | str = "cpu") -> torch.Generator:
    """A generator on `device` for the stream called `name`."""
    return torch.Generator(device).manual_seed(derive_seed(seed, name))


@contextmanager
def seeded_init(seed: int, name: str) -> Iterator[None]:
    """Seed torch's global generator for building a network, and restore its state afterwards.

    Layers can only draw their initial weights from the global generator. Networks are built on the CPU, so that the same seed gives
    the same weights on every device.
    """
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(derive_seed(seed, name))
        yield


class RandomStreams:
    """The random streams of one training run, saved and restored with it."""

    def __init__(self, seed: int, device: torch.device) -> None:
        self._seed, self._device = seed, device
        self._streams: dict[str, torch.Generator] = {}
        self.latents = self.named("latents")
        self.labels = self.named("labels")

    def named(self, name: str, device: torch.device | str | None = None) -> torch.Generator:
        """The stream called `name`, created at the first call; on the run's device by default."""
        if name not in self._streams:
            self._streams[name] = stream(self._seed, name, device or self._device)
        return self._streams[name]

    def state_dict(self) -> dict[str, Tensor]:
        return {name: generator.get_state() for name, generator in self._streams.items()}

    def load_state_dict(self, state: Mapping[str, Tensor]) -> None:
        if odd := state.keys() ^ self._streams.keys():
            raise KeyError(f"streams differ: {', '.join(sorted(map(str, odd)))}")
        for name, generator in self._streams.items():
            generator.set_state(state[name].cpu())
