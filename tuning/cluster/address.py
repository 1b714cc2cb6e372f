"""Address of a Ray cluster: whether one is there, and asks for a token. Ray itself finds out in minutes, or not at all.

Against Ray 2.60: `ray.init` tries an address where nobody answers for 14 minutes, and a driver whose token mode is not
the cluster's connects and loses every trial. So the address is knocked at first, in the mode that the cluster has.
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
    """Of the cluster at `address`. ConfigError where none answers, or not with our token."""
    found = _knock(address)
    for mode in ("disabled", "token"):  # in this order: an open cluster accepts a client with a token, and fails later
        try:
            with authenticating_as(mode):
                greet(found)
        except AuthenticationError:
            continue
        except (RpcError, ConnectionError, RuntimeError) as error:
            raise ConfigError(f"--address {address}: what answers there is no Ray cluster ({reason(error)})") from error
        return mode
    raise ConfigError(f"--address {address}: the cluster asks for its token; name the file that holds it in RAY_AUTH_TOKEN_PATH")


@contextmanager
def authenticating_as(mode: str) -> Iterator[None]:
    """Ray's clients that are made within the block have this authentication mode."""
    try:
        with variables({"RAY_AUTH_MODE": mode}):
            read_settings_again()
            yield
    finally:
        read_settings_again()


def _knock(address: str) -> str:
    """The address as Ray takes it, which is not always the one given, once something has answered there."""
    try:
        found = bootstrap_address(address)
        host, _, port = found.rpartition(":")
        if not port.isdecimal():
            raise ValueError("no Ray runs on this machine")
        socket.create_connection((host.strip("[]"), int(port)), CONNECT_S).close()
    except (OSError, ValueError, OverflowError) as error:
        raise ConfigError(f"--address {address}: no Ray cluster answers there ({reason(error)})") from error
    return found
