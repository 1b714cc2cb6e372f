"""A cluster file for `ray up`, `sbatch` or KubeRay, recognised by its content."""

from pathlib import Path

from cpsc.errors import ConfigError
from tuning.cluster.batch_script import check_batch_script
from tuning.cluster.driver_commands import Grammar
from tuning.cluster.launcher_config import check_launcher_config
from tuning.cluster.ray_job import check_ray_job
from tuning.study.yaml_loader import MAX_BYTES, read_mapping

KEYS = "cluster_name and provider, or apiVersion and kind"


def check_cluster_file(path: Path, grammar: Grammar) -> list[str]:
    """Raise ConfigError for the first mistake in a cluster file, with file, place, value and rule in one line.

    Nothing is started and no cloud is contacted. `grammar` parses the ``cpsc-tune`` commands in the file. Returns one line for each
    thing that the file alone cannot tell.
    """
    try:
        if _is_script(path):
            doubts = check_batch_script(path, grammar)
        else:
            content = read_mapping(path, keys=KEYS, as_ray_does=True)
            doubts = check_ray_job(content, grammar) if {"apiVersion", "kind"} & content.keys() else check_launcher_config(content)
        return [f"{path}: {line}" for line in doubts]
    except ConfigError as error:
        raise ConfigError(f"{path}: {' '.join(str(error).split())}") from error


def _is_script(path: Path) -> bool:
    """Whether it begins like a script, or has a line for `sbatch`."""
    try:
        with path.open("rb") as handle:
            content = handle.read(MAX_BYTES)
    except OSError:  # reported when the file is read
        return False
    return content.startswith(b"#!") or any(line.startswith(b"#SBATCH") for line in content.splitlines())
