"""Checks the commands that start Ray and MLflow: who can reach them, and whether nodes find each other."""

from pathlib import PurePosixPath

from cpsc.errors import ConfigError
from tuning.cluster.launcher_config.sections import HEAD_START, WORKER_START, Cluster
from tuning.cluster.shell import Invocation, home, invocations

LOOPBACK = ("127.0.0.1", "localhost", "::1")
DEFAULT_PORT = "6379"


def check_head_flags(cluster: Cluster) -> None:
    flags = _ray_start(cluster, HEAD_START).flags
    for flag in ("--num-cpus", "--num-gpus"):
        if flags.get(flag) != "0":
            got = f"{flag}={flags[flag]}" if flag in flags else "none"
            raise ConfigError(f"{HEAD_START}: `ray start` must have {flag}=0, so that the head takes no trials, got {got}")


def check_dashboard_host(cluster: Cluster) -> None:
    host = _ray_start(cluster, HEAD_START).flags.get("--dashboard-host")
    if host not in LOOPBACK:
        got = f"--dashboard-host={host}" if host is not None else "none"
        raise ConfigError(
            f"{HEAD_START}: `ray start` must have --dashboard-host=127.0.0.1, open it with `ray dashboard`, got {got}"
        )


def check_autoscaler_is_started(cluster: Cluster) -> None:
    if "--autoscaling-config" not in _ray_start(cluster, HEAD_START).flags:
        raise ConfigError(
            f"{HEAD_START}: `ray start` must have --autoscaling-config=~/ray_bootstrap_config.yaml, or no worker is ever started"
        )


def check_workers_find_the_head(cluster: Cluster) -> None:
    port = _ray_start(cluster, HEAD_START).flags.get("--port", DEFAULT_PORT)
    address = _ray_start(cluster, WORKER_START).flags.get("--address", "none")
    if address.replace("{", "").replace("}", "") != f"$RAY_HEAD_IP:{port}":
        raise ConfigError(f"{WORKER_START}: `ray start` must have --address=$RAY_HEAD_IP:{port}, the head's port, got {address}")


def check_tokens(cluster: Cluster) -> None:
    mounted = [home(path) for path in cluster.get("file_mounts", {})]
    for key in (HEAD_START, WORKER_START):
        variables = _ray_start(cluster, key).variables
        if variables.get("RAY_AUTH_MODE") != "token":
            got = variables.get("RAY_AUTH_MODE", "nothing")
            raise ConfigError(f"{key}: must export RAY_AUTH_MODE=token in the command of `ray start`, got {got}")
        if not variables.get("RAY_AUTH_TOKEN_PATH"):
            raise ConfigError(f"{key}: must export RAY_AUTH_TOKEN_PATH in the command of `ray start`, got nothing")
        token = PurePosixPath(home(variables["RAY_AUTH_TOKEN_PATH"]))
        if not any(token.is_relative_to(folder) for folder in mounted):
            raise ConfigError(f"file_mounts: must copy the token to RAY_AUTH_TOKEN_PATH of {key}, {token}, got {mounted}")


def check_mlflow_host(cluster: Cluster) -> None:
    for key in (HEAD_START, WORKER_START):
        for verb in ("server", "ui"):
            for started in invocations(cluster[key], key, "mlflow", verb):
                host = started.flags.get("--host", started.flags.get("-h", LOOPBACK[0]))
                if host not in LOOPBACK:
                    raise ConfigError(f"{key}: `mlflow {verb}` requires no password, so its --host must be 127.0.0.1, got {host}")


def _ray_start(cluster: Cluster, key: str) -> Invocation:
    """The `ray start` of a list of commands. ConfigError unless there is exactly one."""
    if key not in cluster:
        raise ConfigError(f"{key}: must be given; Ray's default uses no token")
    found = list(invocations(cluster[key], key, "ray", "start"))
    if len(found) != 1:
        raise ConfigError(f"{key}: must run `ray start` once, got {len(found)} times")
    return found[0]
