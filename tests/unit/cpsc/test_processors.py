"""How many processors this process may use: by its affinity, and by control groups of either version."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from cpsc.processors import num_processors

ALLOWED = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else 1
MANY = "6400000"
"""A quota beyond any machine's processors, at a period of 100000."""


def machine(root: Path, groups: str, files: dict[str, str]) -> Path:
    """A root with this process's control groups, and files below ``/sys/fs/cgroup``."""
    (root / "proc/self").mkdir(parents=True)
    (root / "proc/self/cgroup").write_text(groups)
    for name, text in files.items():
        file = root / "sys/fs/cgroup" / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text)
    return root


V1 = "3:cpuset:/\n2:cpuacct,cpu:/docker/abc\n1:name=systemd:/\n0::/\n"


@pytest.mark.parametrize(
    ("groups", "files"),
    [
        ("0::/\n", {"cpu.max": "100000 100000\n"}),
        ("0::/\n", {"cpu.max": "50000 100000\n"}),
        ("0::/user.slice/job.scope\n", {"user.slice/job.scope/cpu.max": "100000 100000\n", "cpu.max": "max 100000\n"}),
        ("0::/user.slice/job.scope\n", {"user.slice/job.scope/cpu.max": "max 100000\n", "user.slice/cpu.max": "190000 100000\n"}),
        ("0::/not/seen/from/within\n", {"cpu.max": "150000 100000\n"}),
        (V1, {"cpu/docker/abc/cpu.cfs_quota_us": "100000\n", "cpu/docker/abc/cpu.cfs_period_us": "100000\n"}),
        (V1, {"cpu,cpuacct/cpu.cfs_quota_us": "25000\n", "cpu,cpuacct/cpu.cfs_period_us": "50000\n"}),
    ],
    ids=["own", "half", "scope", "above", "namespace", "version 1", "version 1, mount's root"],
)
def test_a_quota_of_less_than_two_leaves_one(tmp_path: Path, groups: str, files: dict[str, str]) -> None:
    assert num_processors(root=machine(tmp_path, groups, files)) == 1


@pytest.mark.parametrize(
    ("groups", "files"),
    [
        ("", {}),
        ("0::/\n", {}),
        ("0::/\n", {"cpu.max": "max 100000\n"}),
        ("0::/\n", {"cpu.max": f"{MANY} 100000\n"}),
        ("0::/a\n", {"b/cpu.max": "100000 100000\n"}),
        ("0::/\n", {"cpu.max": "nonsense"}),
        (V1, {"cpu/docker/abc/cpu.cfs_quota_us": "-1\n", "cpu/docker/abc/cpu.cfs_period_us": "100000\n"}),
        (V1, {"cpu/docker/abc/cpu.cfs_quota_us": "100000\n", "cpu/docker/abc/cpu.cfs_period_us": "0\n"}),
        ("3:memory:/\n", {"memory/cpu.cfs_quota_us": "100000\n", "memory/cpu.cfs_period_us": "100000\n"}),
    ],
    ids=["none", "no file", "no limit", "wide", "another's", "nonsense", "version 1, no limit", "no period", "other controller"],
)
def test_without_a_quota_it_is_the_affinity_that_counts(tmp_path: Path, groups: str, files: dict[str, str]) -> None:
    assert num_processors(root=machine(tmp_path, groups, files)) == ALLOWED


def test_a_system_without_control_groups_is_counted_too(tmp_path: Path) -> None:
    assert num_processors(root=tmp_path) == ALLOWED


@pytest.mark.skipif(not hasattr(os, "sched_setaffinity"), reason="needs processor affinity")
@pytest.mark.slow
def test_a_process_that_is_held_to_one_processor_counts_one() -> None:
    program = (
        "import os; os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})\n"
        "from cpsc.processors import num_processors; print(num_processors())"
    )
    finished = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True, timeout=60)
    assert finished.stdout.strip() == "1"
