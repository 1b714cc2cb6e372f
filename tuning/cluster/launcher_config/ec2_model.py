"""Checks `node_config` on AWS against botocore's model of EC2's RunInstances: names, types, and values of enumerations.

Our own tables would have to follow EC2's 44 parameters, most of them structures, and 1,437 instance types. botocore checks
names and types only when it makes a request, and never enumerations, so this module walks the model itself.
"""

from collections.abc import Collection
from functools import cache
from typing import Any

from cpsc.errors import ConfigError
from tuning.cluster.known_names import check_keys
from tuning.study.near_misses import meant

OURS = frozenset({"MinCount", "MaxCount", "ClientToken", "DryRun"})
"""Parameters that Ray sets itself, or that would break it."""
RAYS = "SubnetIds"
_KINDS: dict[str, tuple[type | tuple[type, ...], str]] = {
    "string": (str, "text"),
    "boolean": (bool, "true or false"),
    "integer": (int, "a whole number"),
    "long": (int, "a whole number"),
    "float": ((int, float), "a number"),
    "double": ((int, float), "a number"),
}


def check_parameters(config: Any, where: str) -> None:
    """Raise ConfigError for the first part of a `node_config` that RunInstances does not know."""
    shape = _run_instances()
    if not isinstance(config, dict):
        raise ConfigError(f"{where}: must be a mapping, got {config!r}")
    known = {name: member for name, member in shape.members.items() if name not in OURS}
    check_keys(config, {*known, RAYS}, where)
    for key, value in config.items():
        if key in known:
            _check(value, known[key], f"{where}.{key}")
    subnets = config.get(RAYS, [])
    if not isinstance(subnets, list) or not all(isinstance(subnet, str) for subnet in subnets):
        raise ConfigError(f"{where}.{RAYS}: must be a list of text, got {subnets!r}")


@cache
def regions() -> Collection[str]:
    """All regions that botocore knows."""
    session = _botocore("session").Session()
    return [name for part in session.get_available_partitions() for name in session.get_available_regions("ec2", part)]


def version() -> str:
    """The botocore version that the names come from; a newer one knows more."""
    return f"botocore {_botocore('').__version__}"


def _check(value: Any, shape: Any, where: str) -> None:
    if shape.type_name == "structure":
        if not isinstance(value, dict):
            raise ConfigError(f"{where}: must be a mapping, got {value!r}")
        check_keys(value, shape.members, where)
        for key, inner in value.items():
            _check(inner, shape.members[key], f"{where}.{key}")
    elif shape.type_name == "list":
        if not isinstance(value, list):
            raise ConfigError(f"{where}: must be a list, got {value!r}")
        for number, item in enumerate(value):
            _check(item, shape.member, f"{where}.{number}")
    elif shape.type_name in _KINDS:
        kind, spoken = _KINDS[shape.type_name]
        if not isinstance(value, kind) or (isinstance(value, bool) and kind is not bool):
            raise ConfigError(f"{where}: must be {spoken}, got {value!r}")
        allowed = shape.enum if shape.type_name == "string" else ()
        if allowed and value not in allowed:
            raise ConfigError(f"{where}: must be one of EC2's values, {_some(str(value), allowed)}, got {value!r}")


def _some(value: str, allowed: Collection[str]) -> str:
    """All allowed values if they are few, otherwise their number; with the one that was probably meant."""
    few = len(allowed) <= 8
    guess = meant(value, allowed)
    listed = ", ".join(allowed) if few else f"of which {version()} knows {len(allowed)}, and a newer one more"
    return listed + (f", did you mean {guess}?" if guess else "")


@cache
def _run_instances() -> Any:
    loader = _botocore("loaders").Loader()
    model = _botocore("model").ServiceModel(loader.load_service_model("ec2", "service-2"), "ec2")
    return model.operation_model("RunInstances").input_shape


def _botocore(module: str) -> Any:
    import importlib

    try:
        return importlib.import_module(f"botocore.{module}".rstrip("."))
    except ImportError as error:
        raise ConfigError(
            "provider.type: aws is checked with botocore, which is not installed; `ray up` needs it, too: "
            "pip install 'cpsc-tune[aws]', or boto3"
        ) from error
