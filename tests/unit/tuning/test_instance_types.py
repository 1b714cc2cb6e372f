"""The rule over names of EC2's instance types against what moto recorded from AWS, and the types that it did not."""

import gzip
import json
from pathlib import Path

import moto.ec2
import pytest

from tuning.cluster.launcher_config.instance_types import Machine, machine

RECORDED = Path(moto.ec2.__file__).parent / "resources" / "instance_types.json.gz"


def test_the_rule_holds_for_every_type_that_aws_told() -> None:
    types = json.loads(gzip.decompress(RECORDED.read_bytes()))
    assert len(types) > 1000
    wrong = {}
    for name, told in types.items():
        gpus = sum(max(gpu["Count"], gpu["LogicalGpuCount"]) for gpu in told.get("GpuInfo", {}).get("Gpus", []))
        architecture = told["ProcessorInfo"]["SupportedArchitectures"][-1]
        expected = Machine(told["VCpuInfo"]["DefaultVCpus"], gpus, architecture)
        if name.startswith("mac"):
            expected = Machine(None, gpus, None)
        if machine(name) != expected:
            wrong[name] = (machine(name), expected)
    assert wrong == {}


@pytest.mark.parametrize(
    ("name", "cpus", "gpus", "architecture"),
    [
        ("p3.2xlarge", 8, 1, "x86_64"),
        ("p3.8xlarge", 32, 4, "x86_64"),
        ("p3.16xlarge", 64, 8, "x86_64"),
        ("p2.16xlarge", 64, 16, "x86_64"),
        ("g3.16xlarge", 64, 4, "x86_64"),
        ("g4ad.8xlarge", 32, 2, "x86_64"),
        ("i3.metal", 72, 0, "x86_64"),
        ("g99.xlarge", 4, None, "x86_64"),
        ("cc2.8xlarge", None, 0, "x86_64"),
        ("m7i.unheard", None, 0, "x86_64"),
    ],
)
def test_older_types_are_as_aws_published_them_and_others_are_unknown(
    name: str, cpus: int | None, gpus: int | None, architecture: str
) -> None:
    assert machine(name) == Machine(cpus, gpus, architecture)
