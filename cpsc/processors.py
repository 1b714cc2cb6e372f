"""Processors that this process may use: those of the machine, as far as its CPU affinity and its container's quota allow."""

import math
import os
from collections.abc import Iterator
from pathlib import Path, PurePosixPath

UNLIMITED_V2 = "max"
BUSY = 1.0
"""Load per processor from which on a process must wait for a processor."""


def num_processors(*, root: Path = Path("/")) -> int:
    """Number of whole processors, at least 1. `root`: the folder that holds ``/proc`` and ``/sys``."""
    allowed = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return max(1, min([allowed, *map(math.floor, _quotas(root))]))


def load_per_processor() -> float:
    """Processes that wanted to run in the last minute, per processor of the machine; 0 if the system does not say.

    All processors of the machine are counted, not only those that this process may use, because the load counts all processes.
    """
    return os.getloadavg()[0] / (os.cpu_count() or 1) if hasattr(os, "getloadavg") else 0.0


def _quotas(root: Path) -> Iterator[float]:
    """Quotas, in processors, of every control group that this process is in: each limits the groups below it."""
    for controllers, group in _groups(root):
        is_v2 = not controllers
        if is_v2:
            mounts = [root / "sys/fs/cgroup", root / "sys/fs/cgroup/unified"]
        elif "cpu" in controllers:
            mounts = [root / "sys/fs/cgroup/cpu", root / "sys/fs/cgroup/cpu,cpuacct"]
        else:
            continue
        for mount in mounts:
            # Inside a container the group's own path may not exist, because the mount shows the container's root.
            for level in (group, *group.parents):
                folder = mount / level.relative_to("/")
                quota = _quota_v2(folder) if is_v2 else _quota_v1(folder)
                if quota is not None:
                    yield quota


def _groups(root: Path) -> Iterator[tuple[list[str], PurePosixPath]]:
    """Controllers (none for version 2) and path of each of this process's control groups."""
    for line in _text(root / "proc/self/cgroup").splitlines():
        _, controllers, path = line.split(":", 2)
        yield controllers.split(",") if controllers else [], PurePosixPath("/") / path


def _quota_v2(folder: Path) -> float | None:
    words = _text(folder / "cpu.max").split()
    return _share(*words) if len(words) == 2 and words[0] != UNLIMITED_V2 else None


def _quota_v1(folder: Path) -> float | None:
    return _share(_text(folder / "cpu.cfs_quota_us").strip(), _text(folder / "cpu.cfs_period_us").strip())


def _share(quota: str, period: str) -> float | None:
    """Quota divided by period; None if there is no limit, which version 1 writes as -1."""
    return int(quota) / int(period) if quota.isdecimal() and period.isdecimal() and int(quota) and int(period) else None


def _text(file: Path) -> str:
    try:
        return file.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError):  # no control groups here, or none that we may see
        return ""
