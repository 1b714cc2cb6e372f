"""Ray's private names, as Ray 2.60 has them: what its public interface offers no way to.

Nowhere else is one used. They are imported where they are needed, for not all verbs need all of Ray.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any


@contextmanager
def on_loopback_only() -> Iterator[None]:
    """A Ray that is started inside the block has all its ports on 127.0.0.1, where Ray would open them on every interface.

    So Ray does by itself on Windows and macOS, where it takes the node's address to be that of loopback. `ray.init` turns
    ``_node_ip_address="127.0.0.1"`` into the machine's own address instead.
    """
    from ray._private import ray_constants

    before = ray_constants.ENABLE_RAY_CLUSTER
    ray_constants.ENABLE_RAY_CLUSTER = False
    try:
        yield
    finally:
        ray_constants.ENABLE_RAY_CLUSTER = before


@contextmanager
def no_sigterm_handler_of_ray() -> Iterator[None]:
    """Within the block Ray puts no handler of SIGTERM in the place of the program's: its own end the process at once."""
    from ray._private import utils

    before = utils.set_sigterm_handler
    utils.set_sigterm_handler = lambda handler: None
    try:
        yield
    finally:
        utils.set_sigterm_handler = before


def bootstrap_address(address: str) -> str:
    """The address of a cluster as Ray takes it, which is not always the one given: ``auto`` is that of this machine's."""
    from ray._private.services import canonicalize_bootstrap_address

    return str(canonicalize_bootstrap_address(address) or "")


def read_settings_again() -> None:
    """Ray has read its variables when it was imported."""
    from ray._raylet import Config  # type: ignore[attr-defined]

    Config.initialize("")


def greet(address: str) -> None:
    """Connect with the cluster at `address` in the mode, and with the token, that the variables name, or raise what Ray raises."""
    from ray._private.authentication.authentication_token_setup import ensure_token_if_auth_enabled
    from ray._raylet import GcsClient  # type: ignore[attr-defined]

    ensure_token_if_auth_enabled(None, create_token_if_missing=False)
    GcsClient(address=address)


def validate_cluster_file(cluster: dict[str, Any]) -> None:
    """What `ray up` does before it asks the cloud.

    It raises whatever a malformed file leads it to (KeyError, TypeError, assertions, click's exceptions) and talks while it works.
    """
    from ray.autoscaler._private.util import prepare_config, validate_config

    validate_config(prepare_config(cluster))


def ray_start_options() -> frozenset[str]:
    """What `ray start` takes: ``--num-cpus`` and the like."""
    from ray.scripts.scripts import start

    return frozenset(option for parameter in start.params for option in (*parameter.opts, *parameter.secondary_opts))


def milestones_of(scheduler: Any) -> list[float]:
    """The rungs of an ASHA scheduler of one bracket, in units of its time attribute; they are no whole numbers."""
    return sorted(milestone for milestone, _ in scheduler._brackets[0]._rungs)


@contextmanager
def without_snapshots() -> Iterator[None]:
    """Within the block Ray writes the state of an experiment once, at its end, where it reads it back.

    By itself it takes a snapshot of all trials, the searcher and the callbacks whenever a trial has made as many checkpoints
    as are kept, whatever period it was told: in large sweeps that is most of what the driver does. Nothing reads them here,
    for a launch is rebuilt from its journal.
    """
    from ray.tune.execution.tune_controller import TuneController

    snapshot = TuneController.checkpoint

    def only_forced(controller: TuneController, force: bool = False, wait: bool = False) -> None:
        if force:
            snapshot(controller, force=force, wait=wait)

    TuneController.checkpoint = only_forced
    try:
        yield
    finally:
        TuneController.checkpoint = snapshot
