"""Checks the sections of a cluster file, with Ray's own validation and rules for what that does not notice."""

import contextlib
import io
import logging
from collections.abc import Mapping
from copy import deepcopy
from typing import Any

from cpsc.errors import ConfigError
from tuning.cluster.known_names import check_keys
from tuning.cluster.ray_compat import validate_cluster_file
from tuning.process_settings import log_levels

Cluster = Mapping[str, Any]

# The keys of `provider` that Ray 2.60 reads; it silently ignores all others.
_ANY_PROVIDER = (
    "type",
    "use_internal_ips",
    "use_external_head_ip",
    "disable_node_updaters",
    "disable_launch_config_check",
    "foreground_node_launch",
    "worker_liveness_check",
)
_CLOUD = ("region", "availability_zone", "cache_stopped_nodes")
PROVIDER_KEYS: Mapping[str, frozenset[str]] = {
    "aws": frozenset({*_ANY_PROVIDER, *_CLOUD, "key_pair", "security_group", "aws_credentials", "cloudwatch"}),
    "gcp": frozenset({*_ANY_PROVIDER, *_CLOUD, "project_id", "gcp_credentials"}),
    "local": frozenset({*_ANY_PROVIDER, "head_ip", "external_head_ip", "worker_ips", "coordinator_address"}),
}
REQUIRED_PROVIDER_KEYS: Mapping[str, tuple[str, ...]] = {
    "aws": ("region",),
    "gcp": ("region", "availability_zone", "project_id"),
    "local": (),  # Ray asks for them
}
HEAD_START, WORKER_START = "head_start_ray_commands", "worker_start_ray_commands"
SETUP_LISTS = ("initialization_commands", "setup_commands", "head_setup_commands", "worker_setup_commands")


def check_provider_type(cluster: Cluster) -> None:
    provider = cluster.get("provider")
    kind = provider.get("type") if isinstance(provider, dict) else None
    if not isinstance(kind, str) or kind not in PROVIDER_KEYS:
        raise ConfigError(f"provider.type: must be one of {', '.join(PROVIDER_KEYS)}, got {kind!r}")


def check_command_lists(cluster: Cluster) -> None:
    for key in (*SETUP_LISTS, HEAD_START, WORKER_START):
        commands = cluster.get(key, [])
        if not isinstance(commands, list) or not all(isinstance(command, str) for command in commands):
            raise ConfigError(f"{key}: must be a list of shell commands, got {commands!r}")


def check_sections(cluster: Cluster) -> None:
    """Types of the sections that Ray reads before it checks its schema."""
    for key in ("auth", "available_node_types", "docker", "file_mounts"):
        if not isinstance(cluster.get(key, {}), dict):
            raise ConfigError(f"{key}: must be a mapping, got {cluster[key]!r}")
    for name, node_type in node_types(cluster).items():
        if not isinstance(node_type, dict):
            raise ConfigError(f"available_node_types.{name}: must be a mapping, got {node_type!r}")
    for remote, local in cluster.get("file_mounts", {}).items():
        if not isinstance(remote, str) or not isinstance(local, str):
            raise ConfigError(f"file_mounts.{remote}: must be a local path, got {local!r}")


def check_as_ray_does(cluster: Cluster) -> None:
    """Ray's own validation."""
    levels = {"ray.autoscaler": logging.ERROR}
    try:
        with log_levels(levels), contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(io.StringIO()):
            validate_cluster_file(deepcopy(dict(cluster)))
    except Exception as error:
        path = ".".join(str(part) for part in getattr(error, "absolute_path", ()))
        message = getattr(error, "message", None) or str(error) or type(error).__name__
        raise ConfigError(f"{path}: {message} (Ray)" if path else f"{message} (Ray)") from error


def check_provider_keys(cluster: Cluster) -> None:
    provider = cluster["provider"]
    check_keys(provider, PROVIDER_KEYS[provider["type"]], "provider")


def check_provider_is_complete(cluster: Cluster) -> None:
    provider = cluster["provider"]
    for key in REQUIRED_PROVIDER_KEYS[provider["type"]]:
        if not provider.get(key):
            raise ConfigError(f"provider.{key}: must be given for {provider['type']}, got {provider.get(key)!r}")


def check_node_types_are_given(cluster: Cluster) -> None:
    if cluster["provider"]["type"] != "local" and not cluster.get("available_node_types"):
        raise ConfigError("available_node_types: must be given; Ray's default has no GPU and a head that takes trials")


def check_setup_is_given(cluster: Cluster) -> None:
    if "setup_commands" not in cluster:
        raise ConfigError(
            "setup_commands: must be given, even if empty; Ray's default for clouds installs a nightly build of Ray 3"
        )


def node_types(cluster: Cluster) -> Mapping[str, Any]:
    """Node types by name; empty for your own machines, which Ray uses as they are."""
    return cluster.get("available_node_types", {})


def head_type(cluster: Cluster) -> Mapping[str, Any]:
    """The node type of the head, by its name."""
    return {name: node_type for name, node_type in node_types(cluster).items() if name == cluster["head_node_type"]}


def worker_types(cluster: Cluster) -> Mapping[str, Any]:
    """The node types of workers, by name."""
    return {name: node_type for name, node_type in node_types(cluster).items() if name != cluster["head_node_type"]}
