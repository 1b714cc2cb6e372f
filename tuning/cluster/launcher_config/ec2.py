"""Rules for AWS machines: the resources of each type, zones, disks and profiles."""

import re
from collections.abc import Collection, Iterator, Mapping
from pathlib import PurePosixPath
from typing import Any

from cpsc.errors import ConfigError
from tuning.cluster.launcher_config.ec2_model import check_parameters, regions, version
from tuning.cluster.launcher_config.instance_types import machine
from tuning.cluster.launcher_config.sections import HEAD_START, Cluster, head_type, node_types
from tuning.cluster.shell import invocations, simple_commands
from tuning.study.near_misses import meant

ROOT_DEVICES = frozenset({"sda", "sda1", "xvda"})
"""Root devices of Ubuntu's and Amazon's images, without the folder."""
ZONES = {"aws": r"([a-z]|-.+)", "gcp": "-[a-z]", "local": ".*"}
"""What follows the region in a zone's name; AWS's local zones have names of their own there."""
TAKEN_AWAY = frozenset({"spot", "interruptible-capacity-reservation"})


def check_node_configs(cluster: Cluster) -> None:
    """Keys, types and values; and settings without which EC2 or Ray would not start, or start the wrong machine."""
    for where, config in _configs(cluster, node_types(cluster)):
        check_parameters(config, where)
        for key, why in (
            ("InstanceType", "Ray asks AWS for its resources"),
            ("ImageId", "Ray's default is Ubuntu 18.04, whose Python is too old"),
        ):
            if not config.get(key) or config[key] == "latest_dlami":
                raise ConfigError(f"{where}.{key}: must be given, {why}, got {config.get(key)!r}")
        _check_market(config, where)


def check_zones(cluster: Cluster) -> None:
    """The region must exist, and zones must belong to it."""
    provider = cluster["provider"]
    region = provider.get("region")
    if provider["type"] == "aws" and region not in regions():
        guess = meant(str(region), regions())
        raise ConfigError(
            f"provider.region: must be an AWS region that {version()} knows, got {region!r}"
            + (f", did you mean {guess}?" if guess else "")
        )
    if isinstance(region, str):
        _check_zone_list(provider.get("availability_zone"), "provider.availability_zone", region, ZONES[provider["type"]])
        for where, config in _configs(cluster, node_types(cluster)):
            zone = config.get("Placement", {}).get("AvailabilityZone")
            _check_zone_list(zone, f"{where}.Placement.AvailabilityZone", region, ZONES["aws"])


def check_resources(cluster: Cluster) -> None:
    """No node may declare more processors or GPUs than its machine has: Ray would place trials that do not fit."""
    for name, node_type in _of_aws(cluster).items():
        kind = node_type["node_config"]["InstanceType"]
        found = machine(kind)
        for resource, most in (("CPU", _cpus(node_type["node_config"], found.cpus)), ("GPU", found.gpus)):
            asked = node_type.get("resources", {}).get(resource, 0)
            if most is not None and asked > most:
                where = f"available_node_types.{name}.resources.{resource}"
                raise ConfigError(
                    f"{where}: must be at most {most}, which is what {kind} has, got {asked}; choose another InstanceType"
                )


def doubt_resources(cluster: Cluster) -> Iterator[str]:
    """Instance types that are not known here."""
    for name, node_type in _of_aws(cluster).items():
        kind = node_type["node_config"]["InstanceType"]
        found = machine(kind)
        if unknown := [what for what, number in (("CPUs", found.cpus), ("GPUs", found.gpus)) if number is None]:
            yield f"available_node_types.{name}: how many {' and '.join(unknown)} {kind} has is not known here"


def check_images(cluster: Cluster) -> None:
    """An image runs on one architecture only."""
    seen: dict[str, tuple[str, str]] = {}
    for where, config in _configs(cluster, node_types(cluster)):
        kind = config["InstanceType"]
        architecture = machine(kind).architecture
        if architecture is None:
            continue
        other, theirs = seen.setdefault(config["ImageId"], (kind, architecture))
        if architecture != theirs:
            raise ConfigError(
                f"{where}.ImageId: must differ for {kind} ({architecture}) and {other} ({theirs}), got {config['ImageId']}"
            )


def check_head_is_on_demand(cluster: Cluster) -> None:
    """If the head goes away, the sweep ends."""
    for where, config in _configs(cluster, head_type(cluster)):
        market = config.get("InstanceMarketOptions", {}).get("MarketType")
        if market in TAKEN_AWAY:
            raise ConfigError(
                f"{where}.InstanceMarketOptions.MarketType: must be left out for the head: AWS takes such machines away, which "
                f"would end the sweep, got {market!r}"
            )


def check_profiles(cluster: Cluster) -> None:
    """Workers need an instance profile to read and write the storage."""
    for where, config in _configs(cluster, node_types(cluster)):
        profile = config.get("IamInstanceProfile")
        is_worker = where not in dict(_configs(cluster, head_type(cluster)))
        if profile is None and (not is_worker or "LaunchTemplate" in config):
            continue  # Ray creates one for the head
        if not profile or len([value for value in profile.values() if value]) != 1:
            raise ConfigError(
                f"{where}.IamInstanceProfile: must be {{Name: ...}} or {{Arn: ...}}: Ray creates none for workers, and without one "
                f"they cannot reach the bucket, got {profile!r}"
            )
        if (arn := profile.get("Arn")) and ":instance-profile/" not in arn:
            raise ConfigError(
                f"{where}.IamInstanceProfile.Arn: must name an instance profile, arn:aws:iam::...:instance-profile/..., got {arn}"
            )


def check_disks(cluster: Cluster) -> None:
    """Each device may appear once, and each disk needs a size."""
    for where, config in _configs(cluster, node_types(cluster)):
        seen: dict[str, int] = {}
        for number, disk in enumerate(config.get("BlockDeviceMappings", [])):
            here = f"{where}.BlockDeviceMappings.{number}"
            name = disk.get("DeviceName")
            if not name:
                raise ConfigError(f"{here}.DeviceName: must be given, e.g. /dev/sdf, got {name!r}")
            device = re.sub(r"^xvd", "sd", PurePosixPath(name).name)  # the driver decides which of the two names a system sees
            if device in seen:
                raise ConfigError(f"{here}.DeviceName: must differ from that of {seen[device]}, one disk per device, got {name}")
            seen[device] = number
            ebs = disk.get("Ebs")
            if ebs is not None and not _is_root(disk) and not {"VolumeSize", "SnapshotId"} & ebs.keys():
                raise ConfigError(f"{here}.Ebs.VolumeSize: must be given in GiB, or a SnapshotId, got None")


def check_database_outlives_the_head(cluster: Cluster) -> None:
    """`ray up` replaces the head when its section changes, and AWS may retire it: by default its disks are deleted, too."""
    database = _database(cluster)
    for where, config in _configs(cluster, head_type(cluster)) if database else ():
        disks = [(number, disk) for number, disk in enumerate(config.get("BlockDeviceMappings", [])) if "Ebs" in disk]
        holding = [(number, disk) for number, disk in disks if _may_hold(disk, database, _mount_points(cluster))]
        if any(disk["Ebs"].get("DeleteOnTermination") is False for _, disk in holding):
            continue
        rule = f"must be false for the disk of MLflow's database, {database}, or it is deleted with its machine"
        if not holding:
            raise ConfigError(f"{where}.BlockDeviceMappings: Ebs.DeleteOnTermination {rule}, got no such disk")
        number, disk = holding[0]
        got = disk["Ebs"].get("DeleteOnTermination")
        raise ConfigError(f"{where}.BlockDeviceMappings.{number}.Ebs.DeleteOnTermination: {rule}, got {got!r}")


def _may_hold(disk: Mapping[str, Any], database: PurePosixPath | None, mount_points: Collection[str]) -> bool:
    """A path under a mount point is not on the root disk, any other is; if the commands do not tell, every disk may hold it."""
    if database is None or not database.is_absolute() or not mount_points:
        return True
    return _is_root(disk) != any(map(database.is_relative_to, mount_points))


def _of_aws(cluster: Cluster) -> Mapping[str, Any]:
    return node_types(cluster) if cluster["provider"]["type"] == "aws" else {}


def _configs(cluster: Cluster, types: Mapping[str, Any]) -> list[tuple[str, dict[str, Any]]]:
    """The path and content of each `node_config`; empty on other clouds."""
    if cluster["provider"]["type"] != "aws":
        return []
    return [(f"available_node_types.{name}.node_config", node_type["node_config"]) for name, node_type in types.items()]


def _check_market(config: Mapping[str, Any], where: str) -> None:
    market = config.get("InstanceMarketOptions")
    if market is None:
        return
    if "MarketType" not in market:
        raise ConfigError(f"{where}.InstanceMarketOptions.MarketType: must be given, e.g. spot, got None")
    for key, allowed in (("SpotInstanceType", "one-time"), ("InstanceInterruptionBehavior", "terminate")):
        value = market.get("SpotOptions", {}).get(key, allowed)
        if value != allowed:
            here = f"{where}.InstanceMarketOptions.SpotOptions.{key}"
            raise ConfigError(f"{here}: must be {allowed}, since Ray starts machines once and terminates them, got {value!r}")


def _check_zone_list(zones: Any, where: str, region: str, suffix: str) -> None:
    """`zones`: one zone, several separated by commas, or None."""
    if zones is None:
        return
    if not isinstance(zones, str):
        raise ConfigError(f"{where}: must be text, zones separated by commas, got {zones!r}")
    for zone in zones.split(","):
        if not re.fullmatch(re.escape(region) + suffix, zone.strip()):
            raise ConfigError(f"{where}: must be in the region {region}, whose zones begin with its name, got {zone.strip()!r}")


def _cpus(config: Mapping[str, Any], usual: int | None) -> int | None:
    """CPUs of the instance type, or as many as `CpuOptions` allow."""
    options = config.get("CpuOptions", {})
    if {"CoreCount", "ThreadsPerCore"} <= options.keys():
        return int(options["CoreCount"]) * int(options["ThreadsPerCore"])
    return usual


def _is_root(disk: Mapping[str, Any]) -> bool:
    return PurePosixPath(str(disk.get("DeviceName"))).name in ROOT_DEVICES


def _database(cluster: Cluster) -> PurePosixPath | None:
    """The database file of the MLflow server that the head starts, if it is on the head's disks."""
    for verb in ("server", "ui"):
        for started in invocations(cluster.get(HEAD_START, []), HEAD_START, "mlflow", verb):
            store = started.flags.get("--backend-store-uri", "sqlite:///mlflow.db")
            if store.startswith("sqlite:///"):
                return PurePosixPath(store.removeprefix("sqlite:///"))
    return None


def _mount_points(cluster: Cluster) -> list[str]:
    """Mount points in the head's commands."""
    lists = ("initialization_commands", "setup_commands", "head_setup_commands", HEAD_START)
    commands = [words for key in lists for command in cluster.get(key, []) for words in simple_commands(command, key)]
    mounts = [words for words in commands if any(PurePosixPath(word).name == "mount" for word in words)]
    return [words[-1] for words in mounts if words[-1].startswith("/")]
