"""Every node, before it takes a trial: its storage is the one that all share, its versions are the driver's.

A folder that is not shared fails at the first checkpoint otherwise, after the work is done; another version of torch
may not fail at all, and give other numbers.
"""

import platform
import socket
import uuid
from dataclasses import dataclass
from importlib.metadata import version
from urllib.parse import urlsplit

import ray
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

from cpsc.errors import ConfigError, CpscError
from tuning.storage import Storage

PACKAGES = ("ray", "torch", "numpy", "pyarrow")
"""Those whose version decides a trial's numbers, or whether nodes understand each other's files."""
NODE_ANSWERS_S = 120.0
CONNECT_S = 5.0
LOOPBACK = ("localhost", "127.0.0.1", "::1")


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


def check_nodes(handshake: StorageHandshake, tracking_uri: str | None) -> list[str]:
    """Have every node of the running cluster visit `handshake` -> remarks. UnfitNodeError for the first that cannot take trials.

    A node that joins later does so when its first trial starts.
    """
    visits = []
    for node in ray.nodes():
        if node["Alive"]:
            here = NodeAffinitySchedulingStrategy(node["NodeID"], soft=False)
            task = ray.remote(_visit).options(num_cpus=0, max_retries=0, scheduling_strategy=here)
            visits.append((node["NodeManagerHostname"], task.remote(handshake, tracking_uri)))  # nodes may share a host
    remarks = []
    for node, visit in visits:
        try:
            name, remark = ray.get(visit, timeout=NODE_ANSWERS_S)
        except ray.exceptions.RayTaskError as error:
            if isinstance(error.cause, CpscError):
                raise error.cause from error
            raise UnfitNodeError(f"node {node}: {str(error).strip().splitlines()[-1]}") from error
        except ray.exceptions.RayError as error:
            raise UnfitNodeError(f"node {node}: does not answer ({type(error).__name__})") from error
        handshake.confirm(name)
        remarks += [remark] if remark else []
    return remarks


def _visit(handshake: StorageHandshake, tracking_uri: str | None) -> tuple[str, str]:
    return handshake.check_in(), _tracking_remark(tracking_uri)


def _tracking_remark(uri: str | None) -> str:
    """Why this node does not reach the tracking server: worth a word and no more, for the driver alone talks to it."""
    address = urlsplit(uri or "")
    if address.scheme not in ("http", "https") or not address.hostname or address.hostname in LOOPBACK:
        return ""
    try:
        with socket.create_connection((address.hostname, address.port or (443 if address.scheme == "https" else 80)), CONNECT_S):
            return ""
    except OSError as error:
        return f"node {socket.gethostname()} does not reach the tracking server at {address.hostname} ({error})"
