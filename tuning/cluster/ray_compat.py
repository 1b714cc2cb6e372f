"""Ray's private names, as Ray 2.60 has them: what its public interface offers no way to."""

from collections.abc import Iterator
from contextlib import contextmanager

from ray._private import ray_constants, utils


@contextmanager
def on_loopback_only() -> Iterator[None]:
    """A Ray that is started inside the block has all its ports on 127.0.0.1, where Ray would open them on every interface.

    So Ray does by itself on Windows and macOS, where it takes the node's address to be that of loopback. `ray.init` turns
    ``_node_ip_address="127.0.0.1"`` into the machine's own address instead.
    """
    before = ray_constants.ENABLE_RAY_CLUSTER
    ray_constants.ENABLE_RAY_CLUSTER = False
    try:
        yield
    finally:
        ray_constants.ENABLE_RAY_CLUSTER = before


@contextmanager
def no_sigterm_handler_of_ray() -> Iterator[None]:
    """Within the block Ray puts no handler of SIGTERM in the place of the program's: its own end the process at once."""
    before = utils.set_sigterm_handler
    utils.set_sigterm_handler = lambda handler: None
    try:
        yield
    finally:
        utils.set_sigterm_handler = before
