"""Checks a node's resources, which are given twice: to Kubernetes as container limits, to Ray as `rayStartParams`."""

import math
import re
from collections.abc import Mapping
from typing import Any

from cpsc.errors import ConfigError
from tuning.cluster.ray_compat import ray_start_options
from tuning.cluster.ray_job.groups import Group, groups, workers
from tuning.study.near_misses import hint

Job = Mapping[str, Any]
_CPU = re.compile(r"(?P<number>\d+(\.\d+)?)(?P<thousandths>m?)")
_MEMORY = re.compile(r"\d+(\.\d+)?(Ki|Mi|Gi|Ti|Pi|k|M|G|T|P)?")
OF_KUBERAY = frozenset({"head", "address", "block", "autoscaling-config", "node-ip-address"})
"""Parameters of `ray start` that the operator sets itself."""


def check_limits(job: Job) -> None:
    """KubeRay derives Ray's resources from the limits; without them Ray counts the whole machine."""
    for group in groups(job):
        where = f"{group.container_where}.resources.limits"
        cpu, memory = group.limit("cpu"), group.limit("memory")
        if cpu is None or not _CPU.fullmatch(str(cpu)):
            raise ConfigError(f"{where}.cpu: must be given, e.g. 4, or Ray counts those of the whole machine, got {cpu}")
        if memory is None or not _MEMORY.fullmatch(str(memory)):
            raise ConfigError(f"{where}.memory: must be given, e.g. 16Gi, or Ray counts that of the whole machine, got {memory}")


def check_gpus(job: Job) -> None:
    """GPU limits must be whole numbers, which trials share; requests must equal them."""
    for group in groups(job):
        resources = group.container.get("resources", {})
        for name in _gpu_names(group):
            limit = group.limit(name)
            where = f"{group.container_where}.resources"
            if not re.fullmatch(r"\d+", str(limit)):
                raise ConfigError(
                    f"{where}.limits.{name}: must be a whole number (trials share GPUs by the study's resources.gpus), got {limit}"
                )
            request = resources.get("requests", {}).get(name, limit)
            if str(request) != str(limit):
                raise ConfigError(f"{where}.requests.{name}: must be the limit, {limit}, got {request}")


def _gpu_names(group: Group) -> list[str]:
    """GPU resources by KubeRay's rule: nvidia.com/gpu and amd.com/gpu, but not gpu.intel.com/i915."""
    return [name for name in group.container.get("resources", {}).get("limits", {}) if name.endswith("gpu")]


def _num_gpus(group: Group) -> int:
    return sum(int(group.limit(name)) for name in _gpu_names(group))


def check_head_takes_no_trials(job: Job) -> None:
    head = next(groups(job))
    cpus = head.start_parameters.get("num-cpus", head.content.get("resources", {}).get("CPU"))
    if cpus != "0":
        raise ConfigError(
            f'{head.where}.rayStartParams.num-cpus: must be "0", so that the head takes no trials, got {cpus or "nothing"}'
        )
    if _num_gpus(head) or head.start_parameters.get("num-gpus", "0") != "0":
        raise ConfigError(f"{head.where}: must have no GPU, since the head takes no trials")


def check_start_parameters(job: Job) -> None:
    known = {option.removeprefix("--") for option in ray_start_options()} - OF_KUBERAY
    for group in groups(job):
        where = f"{group.where}.rayStartParams"
        for name in group.start_parameters:
            if name not in known:
                said = "KubeRay sets it itself" if name in OF_KUBERAY else f"`ray start` has no such option{hint(name, known)}"
                raise ConfigError(f"{where}.{name}: {said}")
    for group in workers(job):
        where = f"{group.where}.rayStartParams"
        gpus, cpus = group.start_parameters.get("num-gpus"), group.start_parameters.get("num-cpus")
        if gpus is not None and gpus != str(_num_gpus(group)):
            raise ConfigError(f"{where}.num-gpus: must be the limit of the container, {_num_gpus(group)}, got {gpus}")
        if cpus is not None and cpus != str(_num_cpus(group)):
            raise ConfigError(f"{where}.num-cpus: must be the limit of the container, {_num_cpus(group)}, got {cpus}")


def _num_cpus(group: Group) -> int:
    """The CPU limit, rounded up as in KubeRay."""
    match = _CPU.fullmatch(str(group.limit("cpu")))
    assert match is not None
    return math.ceil(float(match["number"]) / (1000 if match["thousandths"] else 1))


def check_replicas(job: Job) -> None:
    autoscaled = job["spec"]["rayClusterSpec"].get("enableInTreeAutoscaling")
    for group in workers(job):
        least, most = group.content.get("minReplicas", 0), group.content.get("maxReplicas")
        if most is None:
            raise ConfigError(f"{group.where}.maxReplicas: must be given; KubeRay's default is 2147483647")
        replicas = group.content.get("replicas", least)
        if not 0 <= least <= replicas <= most:
            raise ConfigError(f"{group.where}.replicas: must be in [minReplicas ({least}), maxReplicas ({most})], got {replicas}")
        if not autoscaled and replicas == 0:
            raise ConfigError(
                f"{group.where}.replicas: must be >= 1 without enableInTreeAutoscaling, since none is added later, got 0"
            )
