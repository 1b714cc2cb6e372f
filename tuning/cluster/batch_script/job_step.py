"""The command that runs on every node: `srun ... ray symmetric-run ... -- ...`."""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise

from cpsc.errors import ConfigError
from tuning.cluster.batch_script import resources
from tuning.cluster.batch_script.directives import Directives
from tuning.cluster.ray_compat import ray_start_options
from tuning.cluster.shell import ASSIGNMENT, assignments, flags_of, simple_commands
from tuning.study.near_misses import hint

WHERE = "`ray symmetric-run`"
ITS_OWN = ("--address", "--min-nodes")
SETS_ITSELF = ("--head", "--node-ip-address", "--port", "--block")
HEAD_ONLY = ("--include-dashboard", "--redis-shard-ports")
"""`ray start` accepts these on the head only, but all nodes get the same options."""
_LOOPBACK = re.compile(r"(127\.|localhost\b|\[?::1)")


@dataclass(frozen=True)
class JobStep:
    """What one `srun` starts: its flags, those of `ray symmetric-run`, the command for the head, and the surrounding script."""

    srun: Mapping[str, str]
    ray: Mapping[str, str]
    command: str
    known: Mapping[str, str]
    exported: Mapping[str, str]
    text: str


def find(text: str) -> JobStep:
    """The job step of the script. ConfigError unless there is exactly one."""
    commands = list(simple_commands(text, "the script"))
    steps = [words for words in commands if "srun" in words and "symmetric-run" in words]
    if len(steps) != 1:
        raise ConfigError(f"must run `srun ... ray symmetric-run ... -- ...` once, got {len(steps)} times")
    (words,) = steps
    start = words.index("symmetric-run")
    if "--" not in words[start:]:
        raise ConfigError(f"{WHERE}: must have the command for the head after --, got none")
    end = words.index("--", start)
    exported: dict[str, str] = {}
    for each in commands:
        exported |= assignments(each[1:]) if each[0] == "export" else {}
    return JobStep(
        srun=flags_of(words[words.index("srun") + 1 : start - 1]),
        ray=flags_of(words[start + 1 : end]),
        command=_as_text(words[end + 1 :]),
        known=_known(commands),
        exported=exported,
        text=text,
    )


def _as_text(words: Sequence[str]) -> str:
    """The command as shell text; for ``-c``, only the text that follows it."""
    for before, word in pairwise(words):
        if before == "-c":
            return word
    return " ".join(f'"{word}"' for word in words)


def _known(commands: Sequence[Sequence[str]]) -> dict[str, str]:
    """Variables to which the script assigns a literal value."""
    known: dict[str, str] = {}
    for words in commands:
        if all(ASSIGNMENT.fullmatch(word) for word in words):
            known |= {name: value for name, value in assignments(words).items() if value and "$" not in value}
    return known


def check_task_cpus(step: JobStep, found: Directives) -> None:
    """Since Slurm 22.05 `srun` does not inherit --cpus-per-task from the job."""
    cpus = step.srun.get("--cpus-per-task", step.srun.get("-c", step.exported.get("SRUN_CPUS_PER_TASK")))
    if _number(cpus, "SLURM_CPUS_PER_TASK", found.get("cpus-per-task")) is None:
        rule = 'must have --cpus-per-task="$SLURM_CPUS_PER_TASK", or all trials of a node share 1 CPU'
        raise ConfigError(f"srun: {rule}, got {cpus or 'none'}")


def check_ray_options(step: JobStep, found: Directives) -> None:
    known = ray_start_options()
    for name in step.ray:
        if name in SETS_ITSELF:
            raise ConfigError(f"{WHERE}: sets {name} itself, leave it out")
        if name in HEAD_ONLY:
            raise ConfigError(f"{WHERE}: must not have {name}: all nodes get the same options, and with it only the head starts")
        if name not in {*known, *ITS_OWN}:
            raise ConfigError(f"{WHERE}: {name}: `ray start` has no such option{hint(name, known)}")
    host = step.ray.get("--dashboard-host")
    if host is not None and not _LOOPBACK.match(host):
        raise ConfigError(f"{WHERE}: --dashboard-host must be 127.0.0.1, since the dashboard accepts jobs, got {host}")


def check_address(step: JobStep, found: Directives) -> None:
    address = step.ray.get("--address", "")
    if ":" not in address or _LOOPBACK.match(address):
        rule = "--address must be the first node's, with a port, as other nodes can reach it"
        raise ConfigError(f"{WHERE}: {rule}, got {address or 'none'}")


def check_min_nodes(step: JobStep, found: Directives) -> None:
    """Without it the head does not wait for the others, and the sweep checks the head only."""
    given = step.ray.get("--min-nodes")
    if not any(_number(given, name, found.get("nodes")) for name in ("SLURM_JOB_NUM_NODES", "SLURM_NNODES")):
        raise ConfigError(f'{WHERE}: must have --min-nodes "$SLURM_JOB_NUM_NODES", got {given or "none"}')


def check_ray_resources(step: JobStep, found: Directives) -> None:
    """By default Ray counts the whole machine, not what the job was given."""
    cpus = step.ray.get("--num-cpus")
    if _number(cpus, "SLURM_CPUS_PER_TASK", found.get("cpus-per-task")) is None:
        raise ConfigError(f'{WHERE}: must have --num-cpus="$SLURM_CPUS_PER_TASK", got {cpus or "none"}')
    gpus = step.ray.get("--num-gpus")
    if _number(gpus, "SLURM_GPUS_ON_NODE", str(resources.num_gpus(found))) is None:
        raise ConfigError(f'{WHERE}: must have --num-gpus="${{SLURM_GPUS_ON_NODE:-0}}", got {gpus or "none"}')


def check_token(step: JobStep, found: Directives) -> None:
    if (mode := step.exported.get("RAY_AUTH_MODE")) != "token":
        rule = "must export RAY_AUTH_MODE=token, or whoever reaches Ray's ports can run anything"
        raise ConfigError(f"{rule}, got {mode or 'nothing'}")
    if not step.exported.get("RAY_AUTH_TOKEN_PATH"):
        raise ConfigError("must export RAY_AUTH_TOKEN_PATH, a file that all nodes see and only you can read, got nothing")


def check_stopping(step: JobStep, found: Directives) -> None:
    """The script must handle the signal that it requests, and requeue itself for the rest."""
    name = resources.signal_name(found)
    traps = [words for words in simple_commands(step.text, "the script") if words[0] == "trap"]
    if not any(name in (word.removeprefix("SIG") for word in words[2:]) for words in traps):
        raise ConfigError(f"must trap {name}, which #SBATCH --signal requests, and end the driver cleanly, got no such trap")
    if not any(words[:2] == ["scontrol", "requeue"] for words in simple_commands(step.text, "the script")):
        raise ConfigError('must run scontrol requeue "$SLURM_JOB_ID" when time has run out, or the rest is never run')


def _number(given: str | None, variable: str, asked: str | None) -> str | None:
    """`given` if it is Slurm's `variable` or the requested number, else None."""
    if given is None:
        return None
    is_variable = re.fullmatch(rf"\$({variable}|\{{{variable}(:-\d+)?\}})", given)
    return given if is_variable or given == asked else None
