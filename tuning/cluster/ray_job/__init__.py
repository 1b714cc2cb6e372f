"""Checks a `RayJob` for KubeRay before it is applied: keys and types, and rules for what the operator does not notice."""

from collections.abc import Callable, Mapping
from typing import Any

from cpsc.errors import ConfigError
from tuning.cluster.driver_commands import DriverCommands, Grammar, check_driver_commands, doubt_study
from tuning.cluster.ray_job import pods, resources, submission
from tuning.cluster.ray_job.crd import RAY_JOB
from tuning.cluster.ray_job.shape import check_shape, without_nulls
from tuning.study.near_misses import hint

__all__ = ["check_ray_job"]

Job = Mapping[str, Any]
KINDS = ("RayJob", "RayCluster", "RayService", "RayCronJob")
CHECKS: tuple[Callable[[Job], None], ...] = (
    submission.check_name,
    submission.check_mode,
    submission.check_entrypoint_is_one_shells,
    submission.check_retries,
    submission.check_shutdown,
    submission.check_stopping,
    submission.check_token,
    submission.check_ray_version,
    pods.check_containers,  # later checks rely on a container in every pod
    pods.check_images,
    pods.check_environments,
    pods.check_mounts,
    pods.check_head_is_private,
    pods.check_restart_policies,
    resources.check_limits,
    resources.check_gpus,
    resources.check_head_takes_no_trials,
    resources.check_start_parameters,
    resources.check_replicas,
)


def check_ray_job(job: Job, grammar: Grammar) -> list[str]:
    """Raise ConfigError for the first mistake in the content of the file. Returns what the file alone cannot tell."""
    job = without_nulls(job)
    _check_kind(job)
    check_shape(job, RAY_JOB, "")
    for check in CHECKS:
        check(job)
    where = "spec.entrypoint"
    commands: DriverCommands = check_driver_commands(job["spec"]["entrypoint"], where, grammar)
    for folder in commands.folders:
        pods.check_storage(job, folder)
    return list(doubt_study(commands, where))


def _check_kind(job: Job) -> None:
    if job.get("apiVersion") != "ray.io/v1":
        raise ConfigError(f"apiVersion: must be ray.io/v1, got {job.get('apiVersion')!r}")
    kind = job.get("kind")
    if kind != "RayJob":
        guess = "" if kind in KINDS else hint(str(kind), KINDS)
        raise ConfigError(f"kind: must be RayJob, which runs a command and ends, got {kind!r}{guess}")
