"""Checks every node of a cluster before it runs a trial."""

import socket
from urllib.parse import urlsplit

import ray
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

from cpsc.errors import CpscError
from tuning.trial.handshake import StorageHandshake, UnfitNodeError

NODE_ANSWERS_S = 120.0
CONNECT_S = 5.0
LOOPBACK = ("localhost", "127.0.0.1", "::1")


def check_nodes(handshake: StorageHandshake, tracking_uri: str | None) -> list[str]:
    """Let every node of the running cluster check in at `handshake` -> remarks. UnfitNodeError for the first unfit node.

    A node that joins later checks in when its first trial starts.
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
    """A remark if this node cannot reach the tracking server; not an error, since only the driver talks to it."""
    address = urlsplit(uri or "")
    if address.scheme not in ("http", "https") or not address.hostname or address.hostname in LOOPBACK:
        return ""
    try:
        with socket.create_connection((address.hostname, address.port or (443 if address.scheme == "https" else 80)), CONNECT_S):
            return ""
    except OSError as error:
        return f"node {socket.gethostname()} does not reach the tracking server at {address.hostname} ({error})"
