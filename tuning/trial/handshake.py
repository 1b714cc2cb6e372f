"""Handshake over the storage: proves that a node which takes trials shares the driver's storage and package versions.

Without it, a folder that is not shared would fail only at the first checkpoint, after the work; and a different version of
torch may not fail at all but give other numbers.
"""

import platform
import socket
import uuid
from dataclasses import dataclass
from importlib.metadata import version

from cpsc.errors import ConfigError, CpscError
from tuning.storage import Storage

PACKAGES = ("ray", "torch", "numpy", "pyarrow")
"""Packages whose version affects a trial's numbers, or whether nodes can read each other's files."""


class UnfitNodeError(CpscError):
    """A node cannot take trials: their results would be lost or wrong."""


def versions() -> dict[str, str]:
    """The versions that must be the same on all nodes."""
    python = ".".join(platform.python_version_tuple()[:2])
    # Drop what follows a plus: a CPU build on the head is the same version as a CUDA build on a worker.
    return {"python": python} | {package: version(package).partition("+")[0] for package in PACKAGES}


@dataclass(frozen=True)
class StorageHandshake:
    """A folder in the storage with the driver's token: a node that can read the token there shares the storage."""

    storage: Storage
    folder: str
    token: bytes
    versions: dict[str, str]

    @classmethod
    def open(cls, storage: Storage, launch: str) -> "StorageHandshake":
        """Write a token into the launch's folder."""
        handshake = cls(storage, f"{launch}/.nodes", uuid.uuid4().bytes, versions())
        storage.write_token(f"{handshake.folder}/driver", handshake.token)
        return handshake

    def close(self) -> None:
        """Remove the tokens of driver and nodes."""
        self.storage.delete_folder(self.folder)

    def check_in(self) -> str:
        """On a node: read the driver's token and write one -> its name. UnfitNodeError if the node cannot take trials."""
        node, ours = socket.gethostname(), versions()
        for name, theirs in self.versions.items():
            if ours[name] != theirs:
                raise UnfitNodeError(
                    f"node {node}: has {name} {ours[name]}, but the driver has {theirs}; install the same version on all nodes"
                )
        name = f"{self.folder}/{node}-{uuid.uuid4().hex[:8]}"
        try:
            if self.storage.read_token(f"{self.folder}/driver") != self.token:
                raise ConfigError(f"storage: {self.storage} holds other files there")
            self.storage.write_token(name, self.token)
        except ConfigError as error:
            raise UnfitNodeError(f"node {node}: {error}; every node must reach the same storage as the driver") from error
        return name

    def confirm(self, name: str) -> None:
        """On the driver: check that the token `name`, which a node wrote, has arrived. UnfitNodeError if not."""
        if not self.storage.exists(name) or self.storage.read_token(name) != self.token:
            raise UnfitNodeError(
                f"{name}: a node wrote it to {self.storage}, but the driver does not find it there; make that folder a shared one"
            )
