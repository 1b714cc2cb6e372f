"""Checks the pods: the same image everywhere, no secret in plain text, and the sweep's folder on a volume that outlives them."""

from collections.abc import Mapping
from importlib.metadata import version
from pathlib import PurePosixPath
from typing import Any

from cpsc.errors import ConfigError
from tuning.cluster import image_tag, project
from tuning.cluster.plain_secrets import holds_secret
from tuning.cluster.ray_job.groups import Group, groups, workers

Job = Mapping[str, Any]
OUTLIVES = ("persistentVolumeClaim", "nfs", "csi", "cephfs", "glusterfs")
"""Volumes that outlive a pod and that several pods can mount."""


def check_containers(job: Job) -> None:
    if not list(workers(job)):
        raise ConfigError("spec.rayClusterSpec.workerGroupSpecs: must have a group, since the head takes no trials")
    for group in groups(job):
        if not group.pod.get("containers"):
            raise ConfigError(f"{group.pod_where}.containers: must hold the container that Ray runs in")


def check_images(job: Job) -> None:
    """A driver and nodes with different versions of Ray or Python cannot talk to each other."""
    first: str | None = None
    for group in groups(job):
        image, where = group.container.get("image", "nothing"), f"{group.container_where}.image"
        if image_tag.ray_version(image) != version("ray"):
            raise ConfigError(
                f"{where}: must have Ray {version('ray')}, the version on this machine, in its tag, as in {_example()}, got {image}"
            )
        pythons = image_tag.pythons(image)
        if not pythons or not project.python_range().contains(pythons[0]):
            raise ConfigError(f"{where}: must have a Python {project.python_range()} in its tag, as in {_example()}, got {image}")
        first = first or pythons[0]
        if pythons[0] != first:
            raise ConfigError(f"{where}: must have the head's Python, {first}, as Ray requires, got {image}")


def _example() -> str:
    return f"{version('ray')}-py312-gpu"


def check_environments(job: Job) -> None:
    """No secret in plain text: everyone who may list RayJobs can read the file."""
    for group in groups(job):
        for index, container in enumerate(group.pod["containers"]):
            for variable in container.get("env", []):
                name, value = variable.get("name"), variable.get("value", "")
                if holds_secret(f"{name}={value}") or holds_secret(value):
                    where = f"{group.pod_where}.containers.{index}.env.{name}"
                    raise ConfigError(f"{where}: holds a secret in plain text, take it from a Secret by valueFrom.secretKeyRef")


def check_mounts(job: Job) -> None:
    for group in groups(job):
        volumes = [volume["name"] for volume in group.pod.get("volumes", []) if "name" in volume]
        for mount in group.container.get("volumeMounts", []):
            if mount.get("name") not in volumes or "mountPath" not in mount:
                rule = f"must name a volume of the pod, {' or '.join(volumes) or 'which has none'}, and a mountPath"
                raise ConfigError(f"{group.container_where}.volumeMounts: {rule}, got {mount}")


def check_head_is_private(job: Job) -> None:
    """The dashboard must not be public: it accepts jobs."""
    head = next(groups(job))
    if head.content.get("serviceType", "ClusterIP") != "ClusterIP":
        rule = "must be ClusterIP, open the dashboard with kubectl port-forward"
        raise ConfigError(f"{head.where}.serviceType: {rule}, got {head.content['serviceType']}")
    if head.content.get("enableIngress"):
        raise ConfigError(f"{head.where}.enableIngress: must be left out, open the dashboard with kubectl port-forward")


def check_restart_policies(job: Job) -> None:
    """KubeRay's own rule, which it applies only once the job exists."""
    if not job["spec"]["rayClusterSpec"].get("enableInTreeAutoscaling"):
        return
    for group in groups(job):
        if (policy := group.pod.get("restartPolicy", "Never")) != "Never":
            raise ConfigError(f"{group.pod_where}.restartPolicy: must be Never with the autoscaler, got {policy}")


def check_storage(job: Job, folder: str) -> None:
    """ConfigError unless the launch's `folder` is a URI, or on every node the same path on a volume that outlives the pods."""
    if "://" in folder:
        return
    if not folder.startswith("/"):
        raise ConfigError(f"spec.entrypoint: the launch's folder must be a URI or an absolute path on a volume, got {folder}")
    sources = {group.where: _source(group, PurePosixPath(folder)) for group in groups(job)}
    head = next(iter(sources.values()))
    for where, source in sources.items():
        if source is None:
            raise ConfigError(
                f"{where}: must mount a volume that outlives its pods, {' or '.join(OUTLIVES[:2])}, for the folder {folder}"
            )
        if source != head:
            raise ConfigError(f"{where}: must mount the same volume at {folder} as the head")


def _source(group: Group, folder: PurePosixPath) -> Any:
    """The volume that holds `folder`, as described in the file; None if it is the pod's own disk."""
    mounts = [mount for mount in group.container.get("volumeMounts", []) if folder.is_relative_to(mount["mountPath"])]
    if not mounts:
        return None
    mount = max(mounts, key=lambda each: len(each["mountPath"]))
    for volume in group.pod["volumes"]:
        if volume.get("name") == mount["name"]:
            kept = {kind: volume[kind] for kind in OUTLIVES if volume.get(kind)}
            return (kept, mount["mountPath"], mount.get("subPath")) if kept else None
    return None
