"""Node counts of each type, and a head that takes no trials."""

from cpsc.errors import ConfigError
from tuning.cluster.launcher_config.sections import Cluster, head_type, node_types, worker_types


def check_worker_counts(cluster: Cluster) -> None:
    workers = worker_types(cluster)
    if workers and "max_workers" not in cluster:
        raise ConfigError("max_workers: must be given; Ray's default is 2 over all node types")
    for name, node_type in workers.items():
        least, most = node_type.get("min_workers", 0), node_type.get("max_workers", cluster["max_workers"])
        where = f"available_node_types.{name}"
        if most > cluster["max_workers"]:
            raise ConfigError(f"{where}.max_workers: must be <= the cluster's max_workers ({cluster['max_workers']}), got {most}")
        if not 0 <= least <= most:
            raise ConfigError(f"{where}.min_workers: must be in [0, max_workers ({most})], got {least}")


def check_resource_names(cluster: Cluster) -> None:
    """Ray takes any unknown name for a custom resource, and detects missing ones on the machine."""
    for name, node_type in node_types(cluster).items():
        for resource in node_type.get("resources", {}):
            likely = resource.upper().removesuffix("S")
            if likely in ("CPU", "GPU") and resource != likely:
                where = f"available_node_types.{name}.resources.{resource}"
                raise ConfigError(f"{where}: must be {likely}, since trials request no other resources, got {resource}")


def check_head_resources(cluster: Cluster) -> None:
    for name, node_type in head_type(cluster).items():
        for resource in ("CPU", "GPU"):
            amount = node_type["resources"].get(resource)
            if amount != 0:
                where = f"available_node_types.{name}.resources.{resource}"
                raise ConfigError(f"{where}: must be 0, so that the head takes no trials, got {amount!r}")


def check_head_is_no_worker(cluster: Cluster) -> None:
    for name, node_type in head_type(cluster).items():
        for key in ("max_workers", "min_workers"):
            if node_type.get(key, 0) != 0:
                where = f"available_node_types.{name}.{key}"
                raise ConfigError(f"{where}: must be 0, or more heads are started as workers, got {node_type[key]}")
