"""Checks how the job is submitted, retried and stopped, and who may connect to its cluster."""

import re
from collections.abc import Mapping
from importlib.metadata import version
from typing import Any

from cpsc.errors import ConfigError
from tuning.cluster import plain_secrets
from tuning.study.yaml_loader import load_yaml

Job = Mapping[str, Any]
MAX_NAME = 47
"""KubeRay appends to the name, up to the longest name of a service."""
_NAME = re.compile(r"[a-z]([a-z0-9-]*[a-z0-9])?")
_SHELLS_OWN = re.compile(r"[$;|&<>()`\n\"']")
SHELL_MODE = "HTTPMode"
REMEDY = "take it from a Secret by valueFrom.secretKeyRef of the container's env"
MIN_WAIT_S = 60


def check_name(job: Job) -> None:
    """KubeRay's own rules, which it applies only once the job exists."""
    name = job.get("metadata", {}).get("name")
    if not isinstance(name, str) or not _NAME.fullmatch(name) or len(name) > MAX_NAME:
        raise ConfigError(
            f"metadata.name: must be lower-case letters, digits and '-', a letter first, at most {MAX_NAME}, got {name!r}"
        )
    for key in ("entrypoint", "rayClusterSpec"):
        if not job.get("spec", {}).get(key):
            raise ConfigError(f"spec.{key}: must be given")


def check_mode(job: Job) -> None:
    if job["spec"].get("submissionMode") == "InteractiveMode":
        raise ConfigError(f"spec.submissionMode: must be {SHELL_MODE}, since InteractiveMode does not submit the entrypoint")


def check_entrypoint_is_one_shells(job: Job) -> None:
    """In the other modes KubeRay puts the entrypoint into the submitter's command line, whose shell reads it first."""
    spec = job["spec"]
    plain_secrets.check_lines(spec["entrypoint"], "spec.entrypoint: ", REMEDY)
    mode = spec.get("submissionMode", "K8sJobMode")
    if mode != SHELL_MODE and (found := _SHELLS_OWN.search(spec["entrypoint"])):
        rule = f"must be {SHELL_MODE}: in {mode} the submitter's shell reads the entrypoint, which contains {found[0]!r}"
        raise ConfigError(f"spec.submissionMode: {rule}")


def check_retries(job: Job) -> None:
    """Each retry continues the launch on a new cluster, so that the sweep survives the loss of the head."""
    retries = job["spec"].get("backoffLimit", 0)
    if retries < 1:
        raise ConfigError(f"spec.backoffLimit: must be >= 1, or the sweep ends with the head's pod, got {retries}")


def check_shutdown(job: Job) -> None:
    spec = job["spec"]
    if not spec.get("shutdownAfterJobFinishes") and not spec.get("deletionStrategy"):
        raise ConfigError("spec.shutdownAfterJobFinishes: must be true, or the GPUs stay reserved when the sweep is over")


def check_stopping(job: Job) -> None:
    """Ray kills a stopped job three seconds after SIGTERM, unless the job's environment says otherwise."""
    text = job["spec"].get("runtimeEnvYAML", "")
    plain_secrets.check_lines(text, "spec.runtimeEnvYAML: ", f"which the job's page shows, {REMEDY}")
    try:
        loaded = load_yaml(text) or {}
    except ConfigError as error:
        raise ConfigError(f"spec.runtimeEnvYAML: {error}") from error
    variables = loaded.get("env_vars") if isinstance(loaded, dict) else None
    variables = variables if isinstance(variables, dict) else {}
    if variables.get("RAY_JOB_STOP_SIGNAL") != "SIGINT":
        got = variables.get("RAY_JOB_STOP_SIGNAL", "nothing")
        raise ConfigError(f"spec.runtimeEnvYAML: env_vars.RAY_JOB_STOP_SIGNAL must be SIGINT, to end the sweep cleanly, got {got}")
    wait = variables.get("RAY_JOB_STOP_WAIT_TIME_S", "nothing")
    if not isinstance(wait, str) or not wait.isdecimal() or int(wait) < MIN_WAIT_S:
        rule = f"must be >= {MIN_WAIT_S}, in quotes, because nothing is saved within Ray's default of 3 s"
        raise ConfigError(f"spec.runtimeEnvYAML: env_vars.RAY_JOB_STOP_WAIT_TIME_S {rule}, got {wait}")


def check_token(job: Job) -> None:
    options = job["spec"]["rayClusterSpec"].get("authOptions", {})
    where = "spec.rayClusterSpec.authOptions"
    if options.get("mode") != "token":
        rule = "must be token, or every pod of the Kubernetes cluster can run anything"
        raise ConfigError(f"{where}.mode: {rule}, got {options.get('mode', 'nothing')}")
    if options.get("enableK8sTokenAuth"):
        raise ConfigError(
            f"{where}.enableK8sTokenAuth: must be left out, since KubeRay supports it only for clusters without a job"
        )


def check_ray_version(job: Job) -> None:
    """KubeRay uses it to decide on tokens and on the autoscaler version."""
    found = job["spec"]["rayClusterSpec"].get("rayVersion")
    if found != version("ray"):
        raise ConfigError(
            f"spec.rayClusterSpec.rayVersion: must be {version('ray')}, the version on this machine, got {found or 'nothing'}"
        )
