"""Handshake over the storage: whoever takes trials shares it with the driver, and has the driver's versions.

A folder that is not shared fails at the first checkpoint otherwise, after the work is done; another version of torch
may not fail at all, and give other numbers.
"""

import platform
import socket
import uuid
from dataclasses import dataclass
from importlib.metadata import version

from cpsc.errors import ConfigError, CpscError
from tuning.storage import Storage

PACKAGES = ("ray", "torch", "numpy", "pyarrow")
"""Those whose version decides a trial's numbers, or whether nodes understand each other's files."""


class UnfitNodeError(CpscError):
    """A node cannot take trials: all would be lost there."""


def versions() -> dict[str, str]:
    """What must be alike on all nodes."""
    python = ".".join(platform.python_version_tuple()[:2])
    # Without what follows a plus: a CPU build on the head is the same version as a CUDA build on a worker.
    return {"python": python} | {package: version(package).partition("+")[0] for package in PACKAGES}


@dataclass(frozen=True)
class StorageHandshake:
    """A folder in the storage where the driver has left a token: whoever reads it there shares the storage with it."""

    storage: Storage
    folder: str
    token: bytes
    versions: dict[str, str]

    @classmethod
    def open(cls, storage: Storage, launch: str) -> "StorageHandshake":
        """Leave a token in the launch's folder."""
        handshake = cls(storage, f"{launch}/.nodes", uuid.uuid4().bytes, versions())
        storage.write_token(f"{handshake.folder}/driver", handshake.token)
        return handshake

    def close(self) -> None:
        """Remove what driver and nodes have left."""
        self.storage.delete_folder(self.folder)

    def check_in(self) -> str:
        """From a node: read the driver's token, leave one -> its name. UnfitNodeError where the node cannot take trials."""
        node, ours = socket.gethostname(), versions()
        for name, theirs in self.versions.items():
            if ours[name] != theirs:
                raise UnfitNodeError(f"node {node}: has {name} {ours[name]}, the driver {theirs}; install the same on all nodes")
        name = f"{self.folder}/{node}-{uuid.uuid4().hex[:8]}"
        try:
            if self.storage.read_token(f"{self.folder}/driver") != self.token:
                raise ConfigError(f"storage: {self.storage} holds other files there")
            self.storage.write_token(name, self.token)
        except ConfigError as error:
            raise UnfitNodeError(f"node {node}: {error}; every node must reach the same storage as the driver") from error
        return name

    def confirm(self, name: str) -> None:
        """From the driver: what a node says it has written must be there."""
        if not self.storage.exists(name) or self.storage.read_token(name) != self.token:
            raise UnfitNodeError(f"{name}: a node wrote it to {self.storage}, here it is not; is that folder one of its own?")
