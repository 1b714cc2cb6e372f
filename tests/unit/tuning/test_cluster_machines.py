"""Machines on AWS in a cluster file: each mistake is one line with path, value and rule, although Ray accepts it."""

from pathlib import Path
from typing import Any

import pytest

from tests.unit.test_architecture import run_without
from tests.unit.tuning.cluster_edits import (
    HEAD,
    SPOT,
    Cluster,
    Edit,
    both,
    check_cluster_file,
    drop,
    google,
    original,
    own_machines,
    put,
    refusal,
    rewrite,
    write,
)
from tuning.cluster.launcher_config.sections import check_as_ray_does

pytestmark = pytest.mark.slow  # hundreds of cluster files, each through Ray's validator and EC2's model
TYPES = "available_node_types"
WORKERS = f"{TYPES}/gpu_spot"
NODE = f"{WORKERS}/node_config"
MACHINE = f"{TYPES}/head/node_config"
DISK = f"{MACHINE}/BlockDeviceMappings/1"
DATABASE = "/mnt/mlflow/mlflow.db"


def typed(kind: str, **resources: int) -> Edit:
    """Spot workers of another type, on an image of their own."""
    return both(
        put(f"{NODE}/InstanceType", kind), put(f"{NODE}/ImageId", "ami-0123456789abcdef0"), put(f"{WORKERS}/resources", resources)
    )


def disk(name: str = "/dev/sdg", **ebs: Any) -> dict[str, Any]:
    return {"DeviceName": name, "Ebs": {"VolumeSize": 20, **ebs}}


def more_disks(*disks: dict[str, Any]) -> Edit:
    def edit(cluster: Cluster) -> None:
        cluster[TYPES]["head"]["node_config"]["BlockDeviceMappings"] += disks

    return edit


@pytest.fixture
def cluster() -> Cluster:
    return original()


@pytest.mark.parametrize(
    "edit",
    [
        typed("g4dn.12xlarge", CPU=48, GPU=4),
        typed("p3.8xlarge", CPU=32, GPU=4),
        typed("p4d.24xlarge", CPU=96, GPU=8),
        typed("p5.48xlarge", CPU=192, GPU=8),
        typed("c5.9xlarge", CPU=36),
        typed("m5.metal", CPU=96, GPU=0),
        typed("m7g.2xlarge", CPU=8),
        typed("g5.xlarge", CPU=2, GPU=1),
        both(put(f"{MACHINE}/InstanceType", "m7g.large"), put(f"{MACHINE}/ImageId", "ami-0123456789abcdef0")),
        put("provider/availability_zone", "us-west-2a, us-west-2d"),
        put("provider/availability_zone", "us-west-2-lax-1a"),
        drop("provider/availability_zone"),
        both(put("provider/region", "eu-central-1"), put("provider/availability_zone", "eu-central-1b")),
        put(f"{NODE}/InstanceMarketOptions", {"MarketType": "spot", "SpotOptions": {"MaxPrice": "0.5"}}),
        put(f"{NODE}/InstanceMarketOptions/MarketType", "capacity-block"),
        put(f"{NODE}/IamInstanceProfile", {"Arn": "arn:aws:iam::123456789012:instance-profile/worker"}),
        both(drop(f"{NODE}/IamInstanceProfile"), put(f"{NODE}/LaunchTemplate", {"LaunchTemplateName": "worker"})),
        drop(f"{MACHINE}/IamInstanceProfile"),  # Ray makes one
        put(f"{NODE}/SubnetIds", ["subnet-1"]),
        put(f"{NODE}/MetadataOptions", {"HttpTokens": "required", "HttpPutResponseHopLimit": 2}),
        put(f"{NODE}/TagSpecifications", [{"ResourceType": "instance", "Tags": [{"Key": "team", "Value": "x"}]}]),
        more_disks(disk()),
        more_disks(disk(DeleteOnTermination=True)),
        put(DISK, {"DeviceName": "/dev/sdf", "Ebs": {"SnapshotId": "snap-1", "DeleteOnTermination": False}}),
        both(
            rewrite(HEAD, f"sqlite:///{DATABASE}", "sqlite:////home/ubuntu/mlflow.db"),
            put(f"{MACHINE}/BlockDeviceMappings/0/Ebs/DeleteOnTermination", False),
        ),
        both(rewrite(HEAD, f"sqlite:///{DATABASE}", "postgresql://db.internal/mlflow"), drop(f"{DISK}/Ebs/DeleteOnTermination")),
        rewrite(HEAD, f"sqlite:///{DATABASE}", "sqlite:///mlflow.db"),  # where that is, its working directory tells
        both(google, put("provider/availability_zone", "us-west1-c")),
    ],
)
def test_machines_that_are_in_order_pass_in_silence(cluster: Cluster, tmp_path: Path, edit: Edit) -> None:
    edit(cluster)
    assert check_cluster_file(write(tmp_path, cluster)) == []


@pytest.mark.parametrize(
    ("edit", "message"),
    [
        # What a type has
        (typed("m5.xlarge", CPU=4, GPU=1), f"{SPOT}.resources.GPU: must be at most 0, which is what m5.xlarge has, got 1"),
        (typed("c5.2xlarge", GPU=1), f"{SPOT}.resources.GPU: must be at most 0, which is what c5.2xlarge has, got 1"),
        (typed("r5.large", GPU=1), "must be at most 0, which is what r5.large has, got 1; choose another InstanceType"),
        (typed("trn1.2xlarge", GPU=1), "must be at most 0, which is what trn1.2xlarge has, got 1"),
        (typed("g5.xlarge", CPU=8, GPU=1), f"{SPOT}.resources.CPU: must be at most 4, which is what g5.xlarge has, got 8"),
        (typed("g4dn.xlarge", CPU=4, GPU=4), f"{SPOT}.resources.GPU: must be at most 1, which is what g4dn.xlarge has, got 4"),
        (typed("p3.2xlarge", CPU=8, GPU=2), "resources.GPU: must be at most 1, which is what p3.2xlarge has, got 2"),
        (typed("p4d.24xlarge", CPU=128, GPU=8), "resources.CPU: must be at most 96, which is what p4d.24xlarge has, got 128"),
        (typed("g5.24xlarge", CPU=96, GPU=8), "resources.GPU: must be at most 4, which is what g5.24xlarge has, got 8"),
        (
            both(typed("g5.2xlarge", CPU=8, GPU=1), put(f"{NODE}/CpuOptions", {"CoreCount": 4, "ThreadsPerCore": 1})),
            f"{SPOT}.resources.CPU: must be at most 4, which is what g5.2xlarge has, got 8",
        ),
        (
            both(typed("g5.xlagre", CPU=4, GPU=1)),
            f"{SPOT}.node_config.InstanceType: must be one of EC2's values, of which botocore",
        ),
        (typed("g5.xlagre", CPU=4, GPU=1), "did you mean g5.xlarge?, got 'g5.xlagre'"),
        (drop(f"{NODE}/InstanceType"), f"{SPOT}.node_config.InstanceType: must be given, Ray asks AWS for its resources, got None"),
        (drop(f"{NODE}/ImageId"), f"{SPOT}.node_config.ImageId: must be given, Ray's default is Ubuntu 18.04"),
        (put(f"{NODE}/ImageId", "latest_dlami"), f"{SPOT}.node_config.ImageId: must be given, Ray's default is Ubuntu 18.04"),
        (
            put(f"{MACHINE}/InstanceType", "m7g.large"),
            "head.node_config.ImageId: must differ for m7g.large (arm64) and g5.xlarge (x86_64), got ami-YOUR-IMAGE",
        ),
        (
            put(f"{WORKERS}/resources", {"CPU": 4, "gpu": 1}),
            f"{SPOT}.resources.gpu: must be GPU, since trials request no other resources",
        ),
        (
            put(f"{WORKERS}/resources", {"cpus": 4, "GPU": 1}),
            f"{SPOT}.resources.cpus: must be CPU, since trials request no other resources",
        ),
        # Where it stands
        (
            put("provider/availability_zone", "us-west-2a,us-east-1b"),
            "provider.availability_zone: must be in the region us-west-2, whose zones begin with its name, got 'us-east-1b'",
        ),
        (put("provider/availability_zone", "us-west-2"), "provider.availability_zone: must be in the region us-west-2"),
        (put("provider/availability_zone", "us-west-1a"), "must be in the region us-west-2, whose zones begin with its name, got"),
        (
            put("provider/availability_zone", "us-west-2a,"),
            "must be in the region us-west-2, whose zones begin with its name, got ''",
        ),
        (put("provider/region", "us-east-1"), "provider.availability_zone: must be in the region us-east-1"),
        (put("provider/region", "us-wset-2"), "provider.region: must be an AWS region"),
        (put("provider/region", "us-wset-2"), "got 'us-wset-2', did you mean us-west-2?"),
        (
            put(f"{NODE}/Placement", {"AvailabilityZone": "eu-west-1a"}),
            f"{SPOT}.node_config.Placement.AvailabilityZone: must be in",
        ),
        (both(google, put("provider/availability_zone", "us-east1-b")), "must be in the region us-west1, whose zones begin"),
        (both(google, put("provider/availability_zone", "us-west1b")), "must be in the region us-west1, whose zones begin"),
        # Spot
        (
            put(f"{NODE}/InstanceMarketOptions/MarketType", "sport"),
            f"{SPOT}.node_config.InstanceMarketOptions.MarketType: must be one of EC2's values, spot, capacity-block, ",
        ),
        (put(f"{NODE}/InstanceMarketOptions/MarketType", "SPOT"), "on-demand, did you mean spot?, got 'SPOT'"),
        (
            put(f"{NODE}/InstanceMarketOptions", {"SpotOptions": {"MaxPrice": "1"}}),
            f"{SPOT}.node_config.InstanceMarketOptions.MarketType: must be given, e.g. spot, got None",
        ),
        (put(f"{NODE}/InstanceMarketOptoins", {"MarketType": "spot"}), "unknown key, did you mean InstanceMarketOptions?"),
        (
            put(f"{NODE}/InstanceMarketOptions/SpotOptions", {"MaxPrice": 0.5}),
            f"{SPOT}.node_config.InstanceMarketOptions.SpotOptions.MaxPrice: must be text, got 0.5",
        ),
        (
            put(f"{NODE}/InstanceMarketOptions/SpotOptions", {"SpotInstanceType": "persistent"}),
            "SpotInstanceType: must be one-time, since Ray starts machines once and terminates them, got 'persistent'",
        ),
        (
            put(f"{NODE}/InstanceMarketOptions/SpotOptions", {"InstanceInterruptionBehavior": "stop"}),
            "InstanceInterruptionBehavior: must be terminate, since Ray starts machines once and terminates them, got 'stop'",
        ),
        (
            put(f"{MACHINE}/InstanceMarketOptions", {"MarketType": "spot"}),
            "available_node_types.head.node_config.InstanceMarketOptions.MarketType: must be left out for the head: AWS takes",
        ),
        # Profiles
        (
            drop(f"{NODE}/IamInstanceProfile"),
            f"{SPOT}.node_config.IamInstanceProfile: must be {{Name: ...}} or {{Arn: ...}}: Ray creates none for workers",
        ),
        (put(f"{NODE}/IamInstanceProfile", {}), f"{SPOT}.node_config.IamInstanceProfile: must be {{Name: ...}} or {{Arn: ...}}"),
        (put(f"{NODE}/IamInstanceProfile", {"Name": ""}), f"{SPOT}.node_config.IamInstanceProfile: must be"),
        (put(f"{NODE}/IamInstanceProfile", {"Name": "a", "Arn": "b"}), f"{SPOT}.node_config.IamInstanceProfile: must be"),
        (
            put(f"{NODE}/IamInstanceProfile", {"Arn": "arn:aws:iam::123456789012:role/worker"}),
            f"{SPOT}.node_config.IamInstanceProfile.Arn: must name an instance profile",
        ),
        # Disks
        (
            more_disks(disk("/dev/sdf")),
            "head.node_config.BlockDeviceMappings.2.DeviceName: must differ from that of 1, one disk per device, got /dev/sdf",
        ),
        (more_disks(disk("/dev/xvdf")), "BlockDeviceMappings.2.DeviceName: must differ from that of 1"),
        (more_disks(disk("/dev/sda1")), "BlockDeviceMappings.2.DeviceName: must differ from that of 0"),
        (put(f"{NODE}/BlockDeviceMappings", [disk("/dev/sda1"), disk("/dev/sda1")]), f"{SPOT}.node_config.BlockDeviceMappings.1"),
        (more_disks({"Ebs": {"VolumeSize": 1}}), "BlockDeviceMappings.2.DeviceName: must be given, e.g. /dev/sdf, got None"),
        (drop(f"{DISK}/Ebs/VolumeSize"), "BlockDeviceMappings.1.Ebs.VolumeSize: must be given in GiB, or a SnapshotId, got None"),
        (put(f"{DISK}/Ebs/VolumeSize", "20 GB"), "BlockDeviceMappings.1.Ebs.VolumeSize: must be a whole number, got '20 GB'"),
        (
            put(f"{DISK}/Ebs/VolumeType", "gp33"),
            "BlockDeviceMappings.1.Ebs.VolumeType: must be one of EC2's values, standard, io1, io2",
        ),
        (put(f"{DISK}/Ebs/DeleteOnTermination", "false"), "Ebs.DeleteOnTermination: must be true or false, got 'false'"),
        (put(f"{MACHINE}/BlockDeviceMappings", disk()), "head.node_config.BlockDeviceMappings: must be a list, got"),
        # The database
        (
            put(f"{DISK}/Ebs/DeleteOnTermination", True),
            "head.node_config.BlockDeviceMappings.1.Ebs.DeleteOnTermination: must be false for the disk of MLflow's database, "
            f"{DATABASE}, or it is deleted with its machine, got True",
        ),
        (drop(f"{DISK}/Ebs/DeleteOnTermination"), "or it is deleted with its machine, got None"),
        (
            both(
                rewrite(HEAD, "sudo mount LABEL=mlflow /mnt/mlflow", "true"),
                put("head_setup_commands", ["pip install boto3==1.44.5", "sudo mount LABEL=mlflow /mnt/mlflow"]),
                drop(f"{DISK}/Ebs/DeleteOnTermination"),
                put(f"{MACHINE}/BlockDeviceMappings/0/Ebs/DeleteOnTermination", False),
            ),
            "BlockDeviceMappings.1.Ebs.DeleteOnTermination: must be false",
        ),
        (
            drop(DISK),
            "BlockDeviceMappings: Ebs.DeleteOnTermination must be false for the disk of MLflow's database, /mnt/mlflow/mlf",
        ),
        (drop(f"{MACHINE}/BlockDeviceMappings"), "or it is deleted with its machine, got no such disk"),
        (
            rewrite(HEAD, f"sqlite:///{DATABASE}", "sqlite:////home/ubuntu/mlflow.db"),
            "BlockDeviceMappings.0.Ebs.DeleteOnTermination: must be false for the disk of MLflow's database, /home/ubuntu/ml",
        ),
        (
            both(
                drop(f"{DISK}/Ebs/DeleteOnTermination"),
                put(f"{MACHINE}/BlockDeviceMappings/0/Ebs/DeleteOnTermination", False),
            ),
            "BlockDeviceMappings.1.Ebs.DeleteOnTermination: must be false",
        ),
        # Kinds, at any depth
        (put(f"{NODE}/EbsOptimized", "yes"), f"{SPOT}.node_config.EbsOptimized: must be true or false, got 'yes'"),
        (put(f"{NODE}/SecurityGroupIds", "sg-1"), f"{SPOT}.node_config.SecurityGroupIds: must be a list, got 'sg-1'"),
        (put(f"{NODE}/SubnetIds", "subnet-1"), f"{SPOT}.node_config.SubnetIds: must be a list of text, got 'subnet-1'"),
        (put(f"{NODE}/MinCount", 1), f"{SPOT}.node_config.MinCount: unknown key"),
        (put(f"{NODE}/CpuOptions", {"CoreCount": True}), "CpuOptions.CoreCount: must be a whole number, got True"),
        (
            put(f"{NODE}/MetadataOptions", {"HttpToken": "required"}),
            "MetadataOptions.HttpToken: unknown key, did you mean HttpTokens?",
        ),
        (
            put(f"{NODE}/MetadataOptions", {"HttpTokens": "yes"}),
            "MetadataOptions.HttpTokens: must be one of EC2's values, optional, required",
        ),
        (
            put(f"{NODE}/NetworkInterfaces", [{"DeviceIndex": "0"}]),
            "NetworkInterfaces.0.DeviceIndex: must be a whole number, got '0'",
        ),
    ],
)
def test_what_ray_lets_through_is_refused(cluster: Cluster, tmp_path: Path, edit: Edit, message: str) -> None:
    edit(cluster)
    check_as_ray_does(cluster)
    assert message in refusal(write(tmp_path, cluster))


def test_types_whose_machines_are_not_known_are_told(cluster: Cluster, tmp_path: Path) -> None:
    typed("mac2.metal", CPU=8)(cluster)
    path = write(tmp_path, cluster)
    assert check_cluster_file(path) == [f"{path}: {SPOT}: how many CPUs mac2.metal has is not known here"]


def test_only_aws_needs_botocore_and_says_so(cluster: Cluster, tmp_path: Path) -> None:
    paths = []
    for name, edit in (("google", google), ("own", own_machines), ("aws", put("cluster_name", "c"))):
        changed = original()
        edit(changed)
        (tmp_path / name).mkdir()
        paths.append(write(tmp_path / name, changed))
    check = "tuning.cluster.cluster_file, pathlib; tuning.cluster.cluster_file.check_cluster_file(pathlib.Path({!r}), dict)"
    finished = run_without(("botocore",), [check.format(str(path)) for path in paths])
    assert finished.stderr.strip().splitlines()[-1] == (
        f"cpsc.errors.ConfigError: {paths[2]}: provider.type: aws is checked with botocore, which is not installed; "
        "`ray up` needs it, too: pip install 'cpsc-tune[aws]', or boto3"
    )
