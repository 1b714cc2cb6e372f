"""Address of a Ray cluster: checks that a cluster answers, and whether it requires a token.

With Ray 2.60, `ray.init` tries an address where nobody answers for 14 minutes, and a driver with a different token mode than the
cluster connects and loses every trial. So the address is probed first, and the cluster's mode is used.
"""

import socket
from collections.abc import Iterator
from contextlib import contextmanager

from ray.exceptions import AuthenticationError, RpcError

from cpsc.errors import ConfigError
from tuning.cluster.ray_compat import bootstrap_address, greet, read_settings_again
from tuning.process_settings import variables
from tuning.redaction import reason

CONNECT_S = 5.0


def authentication_mode(address: str) -> str:
    """The authentication mode of the cluster at `address`. ConfigError if no cluster answers, or if it refuses our token."""
    found = _knock(address)
    for mode in ("disabled", "token"):  # in this order: an open cluster accepts a client with a token, and fails later
        try:
            with authenticating_as(mode):
                greet(found)
        except AuthenticationError:
            continue
        except (RpcError, ConnectionError, RuntimeError) as error:
            raise ConfigError(f"--address {address}: something answers there, but not a Ray cluster ({reason(error)})") from error
        return mode
    raise ConfigError(f"--address {address}: the cluster requires a token; set RAY_AUTH_TOKEN_PATH to the file that holds it")


@contextmanager
def authenticating_as(mode: str) -> Iterator[None]:
    """Ray clients that are created within the block use this authentication mode."""
    try:
        with variables({"RAY_AUTH_MODE": mode}):
            read_settings_again()
            yield
    finally:
        read_settings_again()


def _knock(address: str) -> str:
    """The address as Ray resolves it, which may differ from the given one, once something has answered there."""
    try:
        found = bootstrap_address(address)
        host, _, port = found.rpartition(":")
        if not port.isdecimal():
            raise ValueError("Ray is not running on this machine")
        socket.create_connection((host.strip("[]"), int(port)), CONNECT_S).close()
    except (OSError, ValueError, OverflowError) as error:
        raise ConfigError(f"--address {address}: no Ray cluster answers there ({reason(error)})") from error
    return found
