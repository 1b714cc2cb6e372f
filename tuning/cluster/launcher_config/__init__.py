"""Checks a `ray up` file before it costs money: with Ray's own validation, and with rules for what that does not notice."""

from collections.abc import Callable, Iterator

from tuning.cluster.launcher_config import ec2, installation, nodes, sections, starts
from tuning.cluster.launcher_config.sections import Cluster

__all__ = ["CHECKS", "check_launcher_config"]

CHECKS: tuple[Callable[[Cluster], None], ...] = (
    sections.check_provider_type,
    sections.check_command_lists,
    sections.check_sections,
    sections.check_as_ray_does,  # later checks rely on the types in Ray's schema
    sections.check_provider_keys,
    sections.check_provider_is_complete,
    sections.check_node_types_are_given,
    ec2.check_node_configs,  # later checks rely on the types in EC2's model
    ec2.check_zones,
    nodes.check_worker_counts,
    sections.check_setup_is_given,
    installation.check_ray_version,
    installation.check_packages,
    installation.check_torch_has_cuda,
    installation.check_python,
    nodes.check_resource_names,
    nodes.check_head_resources,
    nodes.check_head_is_no_worker,
    ec2.check_head_is_on_demand,
    ec2.check_resources,
    ec2.check_images,
    ec2.check_profiles,
    ec2.check_disks,
    ec2.check_database_outlives_the_head,
    starts.check_head_flags,
    starts.check_dashboard_host,
    starts.check_autoscaler_is_started,
    starts.check_workers_find_the_head,
    starts.check_tokens,
    starts.check_mlflow_host,
)
DOUBTS: tuple[Callable[[Cluster], Iterator[str]], ...] = (ec2.doubt_resources, installation.doubt_python)


def check_launcher_config(cluster: Cluster) -> list[str]:
    """Raise ConfigError for the first mistake in the content of a `ray up` file. Returns what the file alone cannot tell.

    The `node_config` is checked for AWS only.
    """
    for check in CHECKS:
        check(cluster)
    return [line for doubt in DOUBTS for line in doubt(cluster)]
