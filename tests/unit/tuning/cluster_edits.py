"""The repository's cluster file, changed in one place, and what is said of it."""

from collections.abc import Callable
from importlib.metadata import version
from pathlib import Path
from typing import Any

import pytest
import yaml

from cpsc.errors import ConfigError
from tuning import cli
from tuning.cluster import cluster_file

ROOT = Path(__file__).parents[3]
CLUSTER = ROOT / "cluster.yaml"
RAY = version("ray")
Cluster = dict[str, Any]
Edit = Callable[[Cluster], None]
HEAD, WORKER = "head_start_ray_commands", "worker_start_ray_commands"
SPOT = "available_node_types.gpu_spot"


def put(path: str, value: Any) -> Edit:
    def edit(cluster: Cluster) -> None:
        *parents, last = path.split("/")
        for parent in parents:
            cluster = cluster[int(parent) if isinstance(cluster, list) else parent]
        cluster[int(last) if isinstance(cluster, list) else last] = value

    return edit


def drop(path: str) -> Edit:
    def edit(cluster: Cluster) -> None:
        *parents, last = path.split("/")
        for parent in parents:
            cluster = cluster[int(parent) if isinstance(cluster, list) else parent]
        del cluster[int(last) if isinstance(cluster, list) else last]

    return edit


def rewrite(key: str, old: str, new: str) -> Edit:
    """Replace text in the list of commands under `key`; it must be there."""

    def edit(cluster: Cluster) -> None:
        assert any(old in command for command in cluster[key])
        cluster[key] = [command.replace(old, new) for command in cluster[key]]

    return edit


def in_own_shell(key: str) -> Edit:
    """Move the exports of the command that starts Ray into a command before it, where they have no effect."""

    def edit(cluster: Cluster) -> None:
        exports, _, start = cluster[key][-1].partition(";")
        cluster[key][-1:] = [exports, start]

    return edit


def docker(**docker: Any) -> Edit:
    """Nodes in containers that bring Ray along."""

    def edit(cluster: Cluster) -> None:
        cluster["docker"] = {"container_name": "ray", **docker}
        cluster["setup_commands"] = []

    return edit


def own_machines(cluster: Cluster) -> None:
    for key in ("available_node_types", "head_node_type", "max_workers"):
        del cluster[key]
    cluster["provider"] = {"type": "local", "head_ip": "10.0.0.1", "worker_ips": ["10.0.0.2"]}


def google(cluster: Cluster) -> None:
    cluster["provider"] = {"type": "gcp", "region": "us-west1", "availability_zone": "us-west1-b", "project_id": "p"}
    for node_type in cluster["available_node_types"].values():
        node_type["node_config"] = {"machineType": "n1-standard-8"}


def both(*edits: Edit) -> Edit:
    def edit(cluster: Cluster) -> None:
        for each in edits:
            each(cluster)

    return edit


def check_cluster_file(path: Path) -> list[str]:
    """As the command line does."""
    return cluster_file.check_cluster_file(path, cli.parse_command_line)


def refusal(path: Path) -> str:
    with pytest.raises(ConfigError) as caught:
        check_cluster_file(path)
    message = str(caught.value)
    assert message.startswith(f"{path}: ")
    assert len(message.splitlines()) == 1
    return message.removeprefix(f"{path}: ")


def write(tmp_path: Path, content: Any) -> Path:
    path = tmp_path / "cluster.yaml"
    path.write_text(content if isinstance(content, str) else yaml.safe_dump(content), encoding="utf-8")
    return path


def original() -> Cluster:
    """The repository's file as content; what its aliases share is there once a place, so that an edit changes one."""
    loaded = _unshared(yaml.safe_load(CLUSTER.read_text(encoding="utf-8")))
    assert isinstance(loaded, dict)
    return loaded


def _unshared(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _unshared(inner) for key, inner in value.items()}
    return [_unshared(inner) for inner in value] if isinstance(value, list) else value
