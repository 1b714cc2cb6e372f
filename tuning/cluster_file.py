"""A `ray up` file, checked before it costs money: by Ray's own validation, and by rules for what that lets through."""

import contextlib
import difflib
import io
import logging
import re
import shlex
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from copy import deepcopy
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path, PurePosixPath
from typing import Any

from cpsc.errors import ConfigError
from tuning.safe_yaml import read_mapping

Cluster = Mapping[str, Any]

# What Ray 2.60 reads from `provider`; it ignores every other key without a word.
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
# The parameters of EC2's RunInstances. Left out are those that Ray sets itself (MinCount, MaxCount) or that would break it
# (ClientToken, DryRun); SubnetIds is Ray's own.
_EC2_INSTANCE = """
    AdditionalInfo BlockDeviceMappings CapacityReservationSpecification CpuOptions CreditSpecification DisableApiStop
    DisableApiTermination EbsOptimized ElasticGpuSpecification ElasticInferenceAccelerators EnablePrimaryIpv6
    EnclaveOptions HibernationOptions IamInstanceProfile ImageId InstanceInitiatedShutdownBehavior InstanceMarketOptions
    InstanceType Ipv6AddressCount Ipv6Addresses KernelId KeyName LaunchTemplate LicenseSpecifications MaintenanceOptions
    MetadataOptions Monitoring NetworkInterfaces NetworkPerformanceOptions Operator Placement PrivateDnsNameOptions
    PrivateIpAddress RamdiskId SecondaryInterfaces SecurityGroupIds SecurityGroups SubnetId SubnetIds TagSpecifications
    UserData
"""
_EC2_DISK = """
    AvailabilityZone AvailabilityZoneId DeleteOnTermination EbsCardIndex Encrypted Iops KmsKeyId OutpostArn SnapshotId
    Throughput VolumeInitializationRate VolumeSize VolumeType
"""
_EC2_SPOT = "BlockDurationMinutes InstanceInterruptionBehavior MaxPrice SpotInstanceType ValidUntil"
EC2_KEYS: Mapping[str, frozenset[str]] = {
    "": frozenset(_EC2_INSTANCE.split()),
    "BlockDeviceMappings": frozenset({"DeviceName", "Ebs", "NoDevice", "VirtualName"}),
    "BlockDeviceMappings.Ebs": frozenset(_EC2_DISK.split()),
    "IamInstanceProfile": frozenset({"Arn", "Name"}),
    "InstanceMarketOptions": frozenset({"MarketType", "SpotOptions"}),
    "InstanceMarketOptions.SpotOptions": frozenset(_EC2_SPOT.split()),
}
"""By structure: the instance itself, and below a dot those of its parts that cluster files use."""
HEAD_START, WORKER_START = "head_start_ray_commands", "worker_start_ray_commands"
SETUP_LISTS = ("initialization_commands", "setup_commands", "head_setup_commands", "worker_setup_commands")
LOOPBACK = ("127.0.0.1", "localhost", "::1")
DEFAULT_PORT = "6379"
ASSIGNMENT = re.compile(r"([A-Za-z_]\w*)=(.*)", re.DOTALL)
RAY_REQUIREMENT = re.compile(r"ray(\[[^]]*\])?\s*(?P<rule>([=<>!~@;].*)?)", re.IGNORECASE)
RAY_WHEEL = re.compile(r"(.*/)?ray-(?P<version>[^-/]+)-[^/]*\.whl")


def check_cluster_file(path: Path) -> None:
    """Raise ConfigError for the first mistake in a `ray up` file: file, path, value and rule in one line.

    Nothing is started and no cloud is asked. The `node_config` of other clouds than AWS is left to them.
    """
    try:
        cluster = read_mapping(path, keys="cluster_name and provider", as_ray_does=True)
        for check in CHECKS:
            check(cluster)
    except ConfigError as error:
        raise ConfigError(f"{path}: {' '.join(str(error).split())}") from error


def _check_provider_type(cluster: Cluster) -> None:
    provider = cluster.get("provider")
    kind = provider.get("type") if isinstance(provider, dict) else None
    if not isinstance(kind, str) or kind not in PROVIDER_KEYS:
        raise ConfigError(f"provider.type: must be one of {', '.join(PROVIDER_KEYS)}, got {kind!r}")


def _check_command_lists(cluster: Cluster) -> None:
    for key in (*SETUP_LISTS, HEAD_START, WORKER_START):
        commands = cluster.get(key, [])
        if not isinstance(commands, list) or not all(isinstance(command, str) for command in commands):
            raise ConfigError(f"{key}: must be a list of shell commands, got {commands!r}")


def _check_sections(cluster: Cluster) -> None:
    """What Ray walks through before it consults its schema."""
    for key in ("auth", "available_node_types", "docker", "file_mounts"):
        if not isinstance(cluster.get(key, {}), dict):
            raise ConfigError(f"{key}: must be a mapping, got {cluster[key]!r}")
    for name, node_type in _node_types(cluster).items():
        if not isinstance(node_type, dict):
            raise ConfigError(f"available_node_types.{name}: must be a mapping, got {node_type!r}")
    for remote, local in cluster.get("file_mounts", {}).items():
        if not isinstance(remote, str) or not isinstance(local, str):
            raise ConfigError(f"file_mounts.{remote}: must be a local path, got {local!r}")


def _check_as_ray_does(cluster: Cluster) -> None:
    """Ray's own validation, what `ray up` runs before it asks the cloud.

    It is private: this function alone knows of it. It raises whatever a malformed file leads it to (KeyError, TypeError,
    assertions, click's exceptions) and talks while it works.
    """
    from ray.autoscaler._private.util import prepare_config, validate_config

    logging.getLogger("ray.autoscaler").setLevel(logging.ERROR)
    try:
        with contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(io.StringIO()):
            validate_config(prepare_config(deepcopy(dict(cluster))))
    except Exception as error:
        path = ".".join(str(part) for part in getattr(error, "absolute_path", ()))
        message = getattr(error, "message", None) or str(error) or type(error).__name__
        raise ConfigError(f"{path}: {message} (Ray)" if path else f"{message} (Ray)") from error


def _check_provider_keys(cluster: Cluster) -> None:
    provider = cluster["provider"]
    _check_keys(provider, PROVIDER_KEYS[provider["type"]], "provider")


def _check_provider_is_complete(cluster: Cluster) -> None:
    provider = cluster["provider"]
    for key in REQUIRED_PROVIDER_KEYS[provider["type"]]:
        if not provider.get(key):
            raise ConfigError(f"provider.{key}: must be given for {provider['type']}, got {provider.get(key)!r}")


def _check_node_types_are_given(cluster: Cluster) -> None:
    if cluster["provider"]["type"] != "local" and not cluster.get("available_node_types"):
        raise ConfigError("available_node_types: must be given; Ray's default has no GPU and a head that takes trials")


def _check_node_config(cluster: Cluster) -> None:
    if cluster["provider"]["type"] == "aws":
        for name, node_type in _node_types(cluster).items():
            _check_ec2(node_type["node_config"], "", f"available_node_types.{name}.node_config")


def _check_ec2(config: Any, structure: str, where: str) -> None:
    if not isinstance(config, dict):
        raise ConfigError(f"{where}: must be a mapping, got {config!r}")
    _check_keys(config, EC2_KEYS[structure], where)
    for key, value in config.items():
        inner = f"{structure}.{key}".lstrip(".")
        if inner not in EC2_KEYS:
            continue
        if isinstance(value, list):
            for number, item in enumerate(value):
                _check_ec2(item, inner, f"{where}.{key}.{number}")
        else:
            _check_ec2(value, inner, f"{where}.{key}")


def _check_worker_counts(cluster: Cluster) -> None:
    workers = _worker_types(cluster)
    if workers and "max_workers" not in cluster:
        raise ConfigError("max_workers: must be given; Ray's default is 2 over all node types")
    for name, node_type in workers.items():
        least, most = node_type.get("min_workers", 0), node_type.get("max_workers", cluster["max_workers"])
        where = f"available_node_types.{name}"
        if most > cluster["max_workers"]:
            raise ConfigError(f"{where}.max_workers: must be <= the cluster's max_workers ({cluster['max_workers']}), got {most}")
        if not 0 <= least <= most:
            raise ConfigError(f"{where}.min_workers: must be in [0, max_workers ({most})], got {least}")


def _check_setup_is_given(cluster: Cluster) -> None:
    if "setup_commands" not in cluster:
        raise ConfigError("setup_commands: must be given, may be empty; Ray's default for clouds installs a nightly build of Ray 3")


def _check_ray_version(cluster: Cluster) -> None:
    """A client and nodes of different versions do not talk to each other."""
    rule = f"must install ray=={version('ray')}, the version here"
    for where, commands, image in _installations(cluster):
        pins = [pin for command in commands for pin in _ray_pins(command, where)]
        for pin in pins:
            if pin.version != version("ray"):
                raise ConfigError(f"{where}: {rule}, got {pin.text}")
        if not pins and image is None:
            raise ConfigError(f"{where}: {rule}, no command does")
        if not pins and image is not None and _image_version(image) != version("ray"):
            raise ConfigError(f"{where}: {rule}, or docker's image must carry it in its tag, got {image}")


def _check_head_resources(cluster: Cluster) -> None:
    for name, node_type in _head_type(cluster).items():
        for resource in ("CPU", "GPU"):
            amount = node_type["resources"].get(resource)
            if amount != 0:
                where = f"available_node_types.{name}.resources.{resource}"
                raise ConfigError(f"{where}: must be 0, so that the head takes no trials, got {amount!r}")


def _check_head_is_no_worker(cluster: Cluster) -> None:
    for name, node_type in _head_type(cluster).items():
        for key in ("max_workers", "min_workers"):
            if node_type.get(key, 0) != 0:
                where = f"available_node_types.{name}.{key}"
                raise ConfigError(f"{where}: must be 0, or further heads are started as workers, got {node_type[key]}")


def _check_head_flags(cluster: Cluster) -> None:
    flags = _ray_start(cluster, HEAD_START).flags
    for flag in ("--num-cpus", "--num-gpus"):
        if flags.get(flag) != "0":
            got = f"{flag}={flags[flag]}" if flag in flags else "none"
            raise ConfigError(f"{HEAD_START}: `ray start` must have {flag}=0, so that the head takes no trials, got {got}")


def _check_dashboard_host(cluster: Cluster) -> None:
    host = _ray_start(cluster, HEAD_START).flags.get("--dashboard-host")
    if host not in LOOPBACK:
        got = f"--dashboard-host={host}" if host is not None else "none"
        raise ConfigError(f"{HEAD_START}: `ray start` must have --dashboard-host=127.0.0.1, see it by `ray dashboard`, got {got}")


def _check_autoscaler_is_started(cluster: Cluster) -> None:
    if "--autoscaling-config" not in _ray_start(cluster, HEAD_START).flags:
        raise ConfigError(
            f"{HEAD_START}: `ray start` must have --autoscaling-config=~/ray_bootstrap_config.yaml, or no worker is ever started"
        )


def _check_workers_find_the_head(cluster: Cluster) -> None:
    port = _ray_start(cluster, HEAD_START).flags.get("--port", DEFAULT_PORT)
    address = _ray_start(cluster, WORKER_START).flags.get("--address", "none")
    if address.replace("{", "").replace("}", "") != f"$RAY_HEAD_IP:{port}":
        raise ConfigError(f"{WORKER_START}: `ray start` must have --address=$RAY_HEAD_IP:{port}, the head's port, got {address}")


def _check_tokens(cluster: Cluster) -> None:
    mounted = [_home(path) for path in cluster.get("file_mounts", {})]
    for key in (HEAD_START, WORKER_START):
        variables = _ray_start(cluster, key).variables
        if variables.get("RAY_AUTH_MODE") != "token":
            got = variables.get("RAY_AUTH_MODE", "nothing")
            raise ConfigError(f"{key}: must export RAY_AUTH_MODE=token in the command of `ray start`, got {got}")
        if not variables.get("RAY_AUTH_TOKEN_PATH"):
            raise ConfigError(f"{key}: must export RAY_AUTH_TOKEN_PATH in the command of `ray start`, got nothing")
        token = PurePosixPath(_home(variables["RAY_AUTH_TOKEN_PATH"]))
        if not any(token.is_relative_to(folder) for folder in mounted):
            raise ConfigError(f"file_mounts: must bring the token to RAY_AUTH_TOKEN_PATH of {key}, {token}, got {mounted}")


def _check_mlflow_host(cluster: Cluster) -> None:
    for key in (HEAD_START, WORKER_START):
        for verb in ("server", "ui"):
            for started in _invocations(cluster[key], key, "mlflow", verb):
                host = started.flags.get("--host", started.flags.get("-h", LOOPBACK[0]))
                if host not in LOOPBACK:
                    raise ConfigError(f"{key}: `mlflow {verb}` asks for no password, its --host must be 127.0.0.1, got {host}")


CHECKS: tuple[Callable[[Cluster], None], ...] = (
    _check_provider_type,
    _check_command_lists,
    _check_sections,
    _check_as_ray_does,  # what follows may rely on the types that Ray's schema demands
    _check_provider_keys,
    _check_provider_is_complete,
    _check_node_types_are_given,
    _check_node_config,
    _check_worker_counts,
    _check_setup_is_given,
    _check_ray_version,
    _check_head_resources,
    _check_head_is_no_worker,
    _check_head_flags,
    _check_dashboard_host,
    _check_autoscaler_is_started,
    _check_workers_find_the_head,
    _check_tokens,
    _check_mlflow_host,
)


def _check_keys(found: Mapping[str, Any], known: Collection[str], where: str) -> None:
    for key in found:
        if key not in known:
            close = difflib.get_close_matches(str(key), known, n=1)
            raise ConfigError(f"{where}.{key}: unknown key" + (f", did you mean {close[0]}?" if close else ""))


def _node_types(cluster: Cluster) -> Mapping[str, Any]:
    """By name; none on own machines, which Ray takes as they are."""
    return cluster.get("available_node_types", {})


def _head_type(cluster: Cluster) -> Mapping[str, Any]:
    return {name: node_type for name, node_type in _node_types(cluster).items() if name == cluster["head_node_type"]}


def _worker_types(cluster: Cluster) -> Mapping[str, Any]:
    return {name: node_type for name, node_type in _node_types(cluster).items() if name != cluster["head_node_type"]}


def _installations(cluster: Cluster) -> Iterator[tuple[str, list[str], str | None]]:
    """Where it is written, the setup commands and docker's image, for the head and for every type of worker."""
    docker = cluster.get("docker", {})
    common = cluster.get("setup_commands", [])
    yield "setup_commands", common + cluster.get("head_setup_commands", []), docker.get("head_image", docker.get("image"))
    image = docker.get("worker_image", docker.get("image"))
    yield "setup_commands", common + cluster.get("worker_setup_commands", []), image
    for name, node_type in _worker_types(cluster).items():
        own = node_type.get("docker", {}).get("worker_image", image)
        if "worker_setup_commands" in node_type:  # they replace the common ones
            yield f"available_node_types.{name}.worker_setup_commands", node_type["worker_setup_commands"], own
        elif own != image:
            yield f"available_node_types.{name}.docker", common + cluster.get("worker_setup_commands", []), own


def _image_version(image: str) -> str:
    """rayproject/ray:2.60.0-py312-gpu -> 2.60.0."""
    return image.partition("@")[0].rpartition(":")[2].partition("-")[0]


@dataclass(frozen=True)
class _RayPin:
    """A requirement for Ray, and the version that it pins, if it pins one."""

    text: str
    version: str | None


def _ray_pins(command: str, where: str) -> Iterator[_RayPin]:
    if not re.search(r"\bpip\d?\b", command):
        return
    for words in _simple_commands(command, where):
        if "install" not in words or not {"pip", "pip3"} & {PurePosixPath(word).name for word in words}:
            continue
        for word in words[words.index("install") + 1 :]:
            if wheel := RAY_WHEEL.fullmatch(word):
                yield _RayPin(word, wheel["version"])
            elif requirement := RAY_REQUIREMENT.fullmatch(word):
                exact = re.fullmatch(r"==\s*([^\s;,*]+)\s*(;.*)?", requirement["rule"])
                yield _RayPin(word, exact[1] if exact else None)


@dataclass(frozen=True)
class _Invocation:
    """A program's start in a shell command: its flags, and the variables that it is given there."""

    flags: Mapping[str, str]
    variables: Mapping[str, str]


def _ray_start(cluster: Cluster, key: str) -> _Invocation:
    """The one `ray start` of a list of commands."""
    if key not in cluster:
        raise ConfigError(f"{key}: must be given; Ray's default knows no token")
    found = list(_invocations(cluster[key], key, "ray", "start"))
    if len(found) != 1:
        raise ConfigError(f"{key}: must run `ray start` once, got {len(found)} times")
    return found[0]


def _invocations(commands: Sequence[str], where: str, program: str, verb: str) -> Iterator[_Invocation]:
    for command in commands:
        if not re.search(rf"\b{program}\s+{verb}\b", command):
            continue
        exported: dict[str, str] = {}  # each command is a shell of its own
        for words in _simple_commands(command, where):
            names = [PurePosixPath(word).name for word in words]
            start = next((i for i, pair in enumerate(zip(names, words[1:], strict=False)) if pair == (program, verb)), None)
            if start is not None:
                yield _Invocation(_flags(words[start + 2 :]), exported | _assignments(words[:start]))
            elif words[0] == "export":
                exported |= _assignments(words[1:])


def _simple_commands(command: str, where: str) -> Iterator[list[str]]:
    """The words of each simple command in a shell command, unquoted; variables stand as they are written."""
    for line in command.replace("\\\n", " ").splitlines():
        lexer = shlex.shlex(line, posix=True, punctuation_chars=True)
        lexer.whitespace_split = True
        words: list[str] = []
        try:
            for word in lexer:
                if set(word) <= set("();|&"):
                    if words:
                        yield words
                    words = []
                else:
                    words.append(word)
        except ValueError as error:
            raise ConfigError(f"{where}: {line.strip()!r} is not a shell command ({error})") from error
        if words:
            yield words


def _flags(words: Sequence[str]) -> dict[str, str]:
    """``--a=1 --b 2 --c`` -> ``{"--a": "1", "--b": "2", "--c": ""}``; of a repeated flag the last, as Ray has it."""
    flags: dict[str, str] = {}
    for word, following in zip(words, [*words[1:], "-"], strict=True):
        if word.startswith("-"):
            name, equals, value = word.partition("=")
            flags[name] = value if equals or following.startswith("-") else following
    return flags


def _assignments(words: Sequence[str]) -> dict[str, str]:
    matches = [ASSIGNMENT.fullmatch(word) for word in words]
    return {match[1]: match[2] for match in matches if match}


def _home(path: str) -> str:
    """One spelling for paths in the home folder."""
    return re.sub(r"^(\$HOME|\$\{HOME\})(?=/|$)", "~", path)
