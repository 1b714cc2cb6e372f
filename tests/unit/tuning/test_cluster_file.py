"""The repository's cluster file passes; every mistake in it is told in one line, most of them although Ray accepts them."""

import subprocess
import tomllib
from pathlib import Path
from typing import Any

import pytest
import yaml
from packaging.requirements import Requirement
from packaging.specifiers import SpecifierSet
from packaging.utils import canonicalize_name

from tests.unit.tuning.cluster_edits import (
    CLUSTER,
    HEAD,
    RAY,
    ROOT,
    SPOT,
    WORKER,
    Cluster,
    Edit,
    both,
    check_cluster_file,
    docker,
    drop,
    google,
    in_own_shell,
    original,
    own_machines,
    put,
    refusal,
    rewrite,
    write,
)
from tuning.cluster.launcher_config import CHECKS
from tuning.cluster.launcher_config.sections import check_as_ray_does
from tuning.cluster.shell import simple_commands

pytestmark = pytest.mark.slow  # hundreds of cluster files, each through Ray's validator


@pytest.fixture
def cluster() -> Cluster:
    """The repository's file as content; each test gets its own."""
    return original()


def test_the_file_of_the_repository_passes_in_silence(capfd: pytest.CaptureFixture[str]) -> None:
    assert check_cluster_file(CLUSTER) == []
    assert capfd.readouterr() == ("", "")


@pytest.mark.parametrize(
    "edit",
    [
        own_machines,
        google,
        drop("available_node_types/head/max_workers"),  # Ray's default for a head is 0
        rewrite(HEAD, "--dashboard-host=127.0.0.1", "--dashboard-host localhost"),
        rewrite(HEAD, "--num-cpus=0 --num-gpus=0", "--num-cpus 0 \\\n  --num-gpus 0"),
        rewrite(WORKER, "export RAY_AUTH_MODE=token", "export RAY_AUTH_MODE='token'; export"),
        rewrite(WORKER, "ray start", "RAY_BACKEND_LOG_LEVEL=info ~/venv/bin/ray start"),
        rewrite(WORKER, "$HOME/.ray", "~/.ray"),
        rewrite(WORKER, "$RAY_HEAD_IP", "${RAY_HEAD_IP}"),
        put("file_mounts", {"~/.ray": "~/cluster-secrets"}),
        docker(image=f"rayproject/ray:{RAY}-py312-gpu"),
        docker(head_image=f"rayproject/ray:{RAY}-py312", worker_image=f"rayproject/ray:{RAY}-py312-gpu@sha256:0"),
        rewrite("setup_commands", f'"ray[default,tune]=={RAY}"', f"./ray-{RAY}-cp312-cp312-manylinux2014_x86_64.whl[default,tune]"),
    ],
)
def test_other_ways_to_write_the_same_pass(cluster: Cluster, tmp_path: Path, edit: Edit) -> None:
    edit(cluster)
    check_cluster_file(write(tmp_path, cluster))


@pytest.mark.parametrize(
    ("edit", "message"),
    [
        (put("provider/regoin", "us-west-2"), "provider.regoin: unknown key, did you mean region?"),
        (put("provider/project_id", "p"), "provider.project_id: unknown key"),
        (both(own_machines, put("provider/worker_ip", [])), "provider.worker_ip: unknown key, did you mean worker_ips?"),
        (both(google, put("provider/zone", "z")), "provider.zone: unknown key"),
        (drop("provider/region"), "provider.region: must be given for aws, got None"),
        (both(google, put("provider/project_id", None)), "provider.project_id: must be given for gcp, got None"),
        (
            put("available_node_types/head/node_config/InstanceTyp", "m7i.large"),
            "available_node_types.head.node_config.InstanceTyp: unknown key, did you mean InstanceType?",
        ),
        (
            put("available_node_types/gpu_spot/node_config/InstanceMarketOptions/MarketTyp", "spot"),
            f"{SPOT}.node_config.InstanceMarketOptions.MarketTyp: unknown key, did you mean MarketType?",
        ),
        (
            put("available_node_types/head/node_config/BlockDeviceMappings/1/Ebs/DeleteOnTerminaton", False),
            "available_node_types.head.node_config.BlockDeviceMappings.1.Ebs.DeleteOnTerminaton: unknown key, "
            "did you mean DeleteOnTermination?",
        ),
        (
            put("available_node_types/gpu_spot/node_config/IamInstanceProfile", "worker"),
            f"{SPOT}.node_config.IamInstanceProfile: must be a mapping, got 'worker'",
        ),
        (
            put("available_node_types/gpu_spot/max_workers", 11),
            f"{SPOT}.max_workers: must be <= the cluster's max_workers (10), got 11",
        ),
        (
            both(put("available_node_types/gpu_spot/min_workers", 3), put("available_node_types/gpu_spot/max_workers", 2)),
            f"{SPOT}.min_workers: must be in [0, max_workers (2)], got 3",
        ),
        (put("available_node_types/gpu_spot/min_workers", -1), f"{SPOT}.min_workers: must be in [0, max_workers (8)], got -1"),
        (drop("max_workers"), "max_workers: must be given; Ray's default is 2 over all node types"),
        (
            both(drop("available_node_types"), drop("head_node_type")),
            "available_node_types: must be given; Ray's default has no GPU and a head that takes trials",
        ),
        (drop("setup_commands"), "setup_commands: must be given, even if empty; Ray's default for clouds installs a nightly build"),
        (put("setup_commands", []), f"setup_commands: must install ray=={RAY}, the version on this machine, no command does"),
        (
            rewrite("setup_commands", f"ray[default,tune]=={RAY}", "ray[default,tune]>=2.60"),
            f"setup_commands: must install ray=={RAY}, the version on this machine, got ray[default,tune]>=2.60",
        ),
        (rewrite("setup_commands", f"[default,tune]=={RAY}", ""), f"must install ray=={RAY}, the version on this machine, got ray"),
        (rewrite("setup_commands", f"=={RAY}", "==2.59.0"), "the version on this machine, got ray[default,tune]==2.59.0"),
        (rewrite("setup_commands", f"=={RAY}", "==2.60.*"), "the version on this machine, got ray[default,tune]==2.60.*"),
        (
            put("head_setup_commands", ["which ray || pip install -U 'ray @ https://example.org/ray-3.0.0.dev0-cp312.whl'"]),
            "the version on this machine, got ray @ https://example.org/ray-3.0.0.dev0-cp312.whl",
        ),
        (
            put("worker_setup_commands", ["python -m pip install https://example.org/ray-3.0.0.dev0-cp312-cp312-any.whl"]),
            "the version on this machine, got https://example.org/ray-3.0.0.dev0-cp312-cp312-any.whl",
        ),
        (
            put("available_node_types/gpu_spot/worker_setup_commands", ["pip install 'torch==2.13.0'"]),
            f"{SPOT}.worker_setup_commands: must install ray=={RAY}, the version on this machine, no command does",
        ),
        (docker(image="rayproject/ray:latest-gpu"), "in its tag, got rayproject/ray:latest-gpu"),
        (
            both(
                docker(image=f"rayproject/ray:{RAY}"),
                put("available_node_types/gpu_spot/docker", {"worker_image": "rayproject/ray:2.59.0-gpu"}),
            ),
            f"{SPOT}.docker: must install ray=={RAY}, the version on this machine, or docker's image must have it in its tag, got "
            "rayproject/ray:2.59.0-gpu",
        ),
        (
            put("available_node_types/head/resources/CPU", 2),
            "available_node_types.head.resources.CPU: must be 0, so that the head takes no trials, got 2",
        ),
        (drop("available_node_types/head/resources/GPU"), "available_node_types.head.resources.GPU: must be 0, so that the head"),
        (put("available_node_types/head/max_workers", 1), "available_node_types.head.max_workers: must be 0, or more heads"),
        (put("head_node_type", "gpu_spot"), f"{SPOT}.resources.CPU: must be 0, so that the head takes no trials, got 4"),
        (
            rewrite(HEAD, " --num-cpus=0", ""),
            f"{HEAD}: `ray start` must have --num-cpus=0, so that the head takes no trials, got none",
        ),
        (
            rewrite(HEAD, "--num-gpus=0", "--num-gpus 1"),
            "must have --num-gpus=0, so that the head takes no trials, got --num-gpus=1",
        ),
        (both(own_machines, rewrite(HEAD, "--num-cpus=0", "")), "must have --num-cpus=0"),
        (
            rewrite(HEAD, "=127.0.0.1", "=0.0.0.0"),
            "must have --dashboard-host=127.0.0.1, open it with `ray dashboard`, got --dashboard-host=0.0.0.0",
        ),
        (
            rewrite(HEAD, "--dashboard-host=127.0.0.1", ""),
            "must have --dashboard-host=127.0.0.1, open it with `ray dashboard`, got none",
        ),
        (
            rewrite(HEAD, "--autoscaling-config", "--autoscaler-config"),
            "must have --autoscaling-config=~/ray_bootstrap_config.yaml",
        ),
        (rewrite(HEAD, "--port=6379", "--port=6380"), f"{WORKER}: `ray start` must have --address=$RAY_HEAD_IP:6380"),
        (rewrite(WORKER, "--address=$RAY_HEAD_IP:6379", ""), "must have --address=$RAY_HEAD_IP:6379, the head's port, got none"),
        (drop(HEAD), f"{HEAD}: must be given; Ray's default uses no token"),
        (drop(WORKER), f"{WORKER}: must be given; Ray's default uses no token"),
        (put(WORKER, ["ray stop"]), f"{WORKER}: must run `ray start` once, got 0 times"),
        (put(WORKER, ["echo 'ray start"]), f"""{WORKER}: "echo 'ray start" is not a shell command (No closing quotation)"""),
        (
            rewrite(HEAD, "RAY_AUTH_MODE=token ", ""),
            f"{HEAD}: must export RAY_AUTH_MODE=token in the command of `ray start`, got nothing",
        ),
        (
            rewrite(WORKER, "RAY_AUTH_MODE=token", "RAY_AUTH_MODE=disabled"),
            f"{WORKER}: must export RAY_AUTH_MODE=token in the command of `ray start`, got disabled",
        ),
        (rewrite(WORKER, "export RAY_AUTH_MODE", "RAY_AUTH_MODE"), f"{WORKER}: must export RAY_AUTH_MODE=token"),
        (in_own_shell(HEAD), f"{HEAD}: must export RAY_AUTH_MODE=token in the command of `ray start`, got nothing"),
        (rewrite(WORKER, "RAY_AUTH_TOKEN_PATH=", "RAY_TOKEN_PATH="), f"{WORKER}: must export RAY_AUTH_TOKEN_PATH"),
        (
            put("file_mounts", {}),
            f"file_mounts: must copy the token to RAY_AUTH_TOKEN_PATH of {HEAD}, ~/.ray/auth_token, got []",
        ),
        (rewrite(WORKER, "/auth_token", "/token"), f"file_mounts: must copy the token to RAY_AUTH_TOKEN_PATH of {WORKER}"),
        (
            rewrite(HEAD, "--host 127.0.0.1", "--host 0.0.0.0"),
            f"{HEAD}: `mlflow server` requires no password, so its --host must be 127.0.0.1, got 0.0.0.0",
        ),
    ],
)
def test_what_ray_lets_through_is_refused(cluster: Cluster, tmp_path: Path, edit: Edit, message: str) -> None:
    edit(cluster)
    check_as_ray_does(cluster)
    assert message in refusal(write(tmp_path, cluster))


@pytest.mark.parametrize(
    ("edit", "message"),
    [
        (put("available_node_types/gpu_spot/resources/GPU", 0.25), f"{SPOT}.resources.GPU: 0.25 is not of type 'integer' (Ray)"),
        (put("max_wokers", 1), "Additional properties are not allowed ('max_wokers' was unexpected) (Ray)"),
        (
            put("available_node_types/gpu_spot/prority", 1),
            f"{SPOT}: Additional properties are not allowed ('prority' was unexpected) (Ray)",
        ),
        (
            both(put("available_node_types/gpu_spot/min_workers", 8), put("max_workers", 7)),
            "The specified global `max_workers` is smaller than the sum of `min_workers` of all the available node types. (Ray)",
        ),
        (put("head_node_type", "haed"), "`head_node_type` must be one of `available_node_types`. (Ray)"),
        (
            both(own_machines, drop("provider/head_ip")),
            "Please supply a `head_ip` and list of `worker_ips`. Alternatively, supply a `coordinator_address`. (Ray)",
        ),
    ],
)
def test_what_ray_refuses_is_one_line_too(
    cluster: Cluster, tmp_path: Path, capfd: pytest.CaptureFixture[str], edit: Edit, message: str
) -> None:
    edit(cluster)
    assert message in refusal(write(tmp_path, cluster))
    assert capfd.readouterr() == ("", "")


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("- 1", "must be a mapping with cluster_name and provider, or apiVersion and kind, got list"),
        ("", "must be a mapping with cluster_name and provider, or apiVersion and kind, got NoneType"),
        ("a: [", "not valid YAML"),
        ({"cluster_name": "c"}, "provider.type: must be one of aws, gcp, local, got None"),
        ({"provider": ["aws"]}, "provider.type: must be one of aws, gcp, local, got None"),
        ({"provider": {"type": "awss"}}, "provider.type: must be one of aws, gcp, local, got 'awss'"),
        ({"provider": {"type": ["aws"]}}, "provider.type: must be one of aws, gcp, local, got ['aws']"),
        (
            {"provider": {"type": "aws"}, "setup_commands": "pip install ray"},
            "setup_commands: must be a list of shell commands, got 'pip install ray'",
        ),
        ({"provider": {"type": "aws"}, HEAD: [1]}, f"{HEAD}: must be a list of shell commands, got [1]"),
        ({"provider": {"type": "aws"}, "docker": None}, "docker: must be a mapping, got None"),
        ({"provider": {"type": "aws"}, "available_node_types": [1]}, "available_node_types: must be a mapping, got [1]"),
        ({"provider": {"type": "aws"}, "available_node_types": {"head": 1}}, "available_node_types.head: must be a mapping, got 1"),
        ({"provider": {"type": "aws"}, "file_mounts": {"~/a": None}}, "file_mounts.~/a: must be a local path, got None"),
    ],
)
def test_content_of_another_kind_is_refused(tmp_path: Path, content: Any, message: str) -> None:
    assert message in refusal(write(tmp_path, content))


def test_a_file_that_cannot_be_read_is_refused(tmp_path: Path) -> None:
    assert refusal(tmp_path / "none.yaml") == "cannot be read (No such file or directory)"
    binary = tmp_path / "binary.yaml"
    binary.write_bytes(b"\xff\xfe\xfa")
    assert refusal(binary) == "not valid YAML (not UTF-8 text)"


def test_a_check_does_not_change_what_it_checks(cluster: Cluster) -> None:
    before = yaml.safe_dump(cluster)
    for check in CHECKS:
        check(cluster)
    assert yaml.safe_dump(cluster) == before


def installed(cluster: Cluster) -> dict[str, Requirement]:
    """What the setup commands of all kinds of nodes install, by name."""
    requirements = {}
    for key in ("setup_commands", "head_setup_commands", "worker_setup_commands"):
        for command in cluster[key]:
            for words in simple_commands(command, key):
                if words[0].endswith("pip"):
                    found = [Requirement(word) for word in words[2:] if not word.startswith("-")]
                    requirements |= {canonicalize_name(requirement.name): requirement for requirement in found}
    return requirements


def test_every_dependency_is_pinned_within_the_range_of_the_project(cluster: Cluster) -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    pins = installed(cluster)
    for text in project["dependencies"]:
        wanted = Requirement(text)
        pin = pins.pop(canonicalize_name(wanted.name))
        (exact,) = pin.specifier
        assert exact.operator == "=="
        assert wanted.specifier.contains(exact.version), f"{pin} is outside of {wanted}"
        assert wanted.extras <= pin.extras
    assert set(pins) == {"boto3"}
    assert "python3.12 -m venv" in cluster["setup_commands"][0]
    assert SpecifierSet(project["requires-python"]).contains("3.12")


def test_every_command_is_one_that_bash_can_read(cluster: Cluster) -> None:
    for key in ("setup_commands", "head_setup_commands", "worker_setup_commands", HEAD, WORKER):
        for command in cluster[key]:
            subprocess.run(["bash", "-n", "-c", command], check=True, timeout=10)


def test_the_head_costs_little_and_outlives_its_workers(cluster: Cluster) -> None:
    types = cluster["available_node_types"]
    spot = [name for name, node_type in types.items() if "InstanceMarketOptions" in node_type["node_config"]]
    assert spot == ["gpu_spot"]
    assert types["gpu_spot"]["priority"] > types["gpu_on_demand"]["priority"]
    assert all(node_type["min_workers"] == 0 for node_type in types.values())
    assert types["head"]["node_config"]["BlockDeviceMappings"][1]["Ebs"]["DeleteOnTermination"] is False
