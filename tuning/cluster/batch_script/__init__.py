"""Checks a script for Slurm's `sbatch` before it waits in a queue: what it requests, and what it runs on each node."""

from collections.abc import Callable
from pathlib import Path

from tuning.cluster import plain_secrets
from tuning.cluster.batch_script import directives, job_step, resources
from tuning.cluster.batch_script.directives import Directives
from tuning.cluster.batch_script.job_step import JobStep
from tuning.cluster.driver_commands import Grammar, check_driver_commands, doubt_study
from tuning.study.yaml_loader import read_text

__all__ = ["check_batch_script"]

RESOURCE_CHECKS: tuple[Callable[[Directives], None], ...] = (
    resources.check_nodes,
    resources.check_one_task_a_node,
    resources.check_whole_nodes,
    resources.check_cpus,
    resources.check_gpus,
    resources.check_time,
    resources.check_signal,
    resources.check_requeue,
    resources.check_output,
)
STEP_CHECKS: tuple[Callable[[JobStep, Directives], None], ...] = (
    job_step.check_task_cpus,
    job_step.check_ray_options,
    job_step.check_address,
    job_step.check_min_nodes,
    job_step.check_ray_resources,
    job_step.check_token,
    job_step.check_stopping,
)
REMEDY = "keep it in a file that only you can read, and read it from there"


def check_batch_script(path: Path, grammar: Grammar) -> list[str]:
    """Raise ConfigError for the first mistake in the script. Returns what the script alone cannot tell."""
    text = read_text(path, kind="a shell script for sbatch", no_text="must be a shell script, got bytes that are not UTF-8 text")
    plain_secrets.check_lines(text, "", REMEDY)
    found = directives.parse(text)
    for check in RESOURCE_CHECKS:
        check(found)
    doubts = directives.check_syntax(path)
    step = job_step.find(text)
    for check_step in STEP_CHECKS:
        check_step(step, found)
    commands = check_driver_commands(step.command, "the command after --", grammar, step.known)
    return [*doubts, *resources.doubt_output_folder(found), *doubt_study(commands, "the command after --")]
