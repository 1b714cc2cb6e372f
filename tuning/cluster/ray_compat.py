"""Private names of Ray 2.60, for what its public interface does not offer.

They are used only here, and imported only where needed, since not all verbs need all of Ray.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any


@contextmanager
def on_loopback_only() -> Iterator[None]:
    """If Ray is started inside the block, all its ports are on 127.0.0.1; by default Ray opens them on every interface.

    Ray does the same on Windows and macOS, where it uses loopback as the node's address. Passing
    ``_node_ip_address="127.0.0.1"`` does not help: `ray.init` turns it into the machine's own address.
    """
    from ray._private import ray_constants

    with _replaced(ray_constants, "ENABLE_RAY_CLUSTER", False):
        yield


@contextmanager
def no_sigterm_handler_of_ray() -> Iterator[None]:
    """Keep Ray from replacing the program's SIGTERM handler within the block: Ray's own handler ends the process at once."""
    from ray._private import utils

    with _replaced(utils, "set_sigterm_handler", lambda handler: None):
        yield


def bootstrap_address(address: str) -> str:
    """The cluster address as Ray resolves it: ``auto`` means the cluster of this machine."""
    from ray._private.services import canonicalize_bootstrap_address

    return str(canonicalize_bootstrap_address(address) or "")


def read_settings_again() -> None:
    """Make Ray read its environment variables again: it has read them when it was imported."""
    from ray._raylet import Config  # type: ignore[attr-defined]

    Config.initialize("")


def greet(address: str) -> None:
    """Connect to the cluster at `address`, with the mode and token from the environment. Raises Ray's own errors."""
    from ray._private.authentication.authentication_token_setup import ensure_token_if_auth_enabled
    from ray._raylet import GcsClient  # type: ignore[attr-defined]

    ensure_token_if_auth_enabled(None, create_token_if_missing=False)
    GcsClient(address=address)


def validate_cluster_file(cluster: dict[str, Any]) -> None:
    """Run the validation that `ray up` does before it contacts the cloud.

    For a malformed file it raises all kinds of errors (KeyError, TypeError, assertions, click's exceptions), and it prints.
    """
    from ray.autoscaler._private.util import prepare_config, validate_config

    validate_config(prepare_config(cluster))


def ray_start_options() -> frozenset[str]:
    """The options of `ray start`: ``--num-cpus`` and so on."""
    from ray.scripts.scripts import start

    return frozenset(option for parameter in start.params for option in (*parameter.opts, *parameter.secondary_opts))


def milestones_of(scheduler: Any) -> list[float]:
    """The rungs of an ASHA scheduler with one bracket, in units of its time attribute; not whole numbers."""
    return sorted(milestone for milestone, _ in scheduler._brackets[0]._rungs)


@contextmanager
def without_snapshots() -> Iterator[None]:
    """Within the block Ray writes the state of an experiment only once, at its end, when it reads the state back.

    By default it takes a snapshot of all trials, the searcher and the callbacks whenever a trial has made as many checkpoints
    as are kept, whatever the configured period: in large sweeps this takes most of the driver's time. Nothing here reads the
    snapshots, since a launch is rebuilt from its journal.
    """
    from ray.tune.execution.tune_controller import TuneController

    snapshot = TuneController.checkpoint

    def only_forced(controller: TuneController, force: bool = False, wait: bool = False) -> None:
        if force:
            snapshot(controller, force=force, wait=wait)

    with _replaced(TuneController, "checkpoint", only_forced):
        yield


@contextmanager
def callbacks_not_counted() -> Iterator[None]:
    """Within the block Ray does not count a sweep's callbacks by their classes for its usage statistics.

    For the comparison it imports the integrations of all trackers that are installed: W&B alone takes two seconds.
    """
    from ray.air._internal import usage

    with _replaced(usage, "tag_callbacks", lambda callbacks: False):
        yield


@contextmanager
def _replaced(owner: Any, name: str, value: Any) -> Iterator[None]:
    """Within the block, `owner` has another value under `name`."""
    before = getattr(owner, name)
    setattr(owner, name, value)
    try:
        yield
    finally:
        setattr(owner, name, before)
