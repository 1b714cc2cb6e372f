"""What a job requests from Slurm: whole, equal nodes with one task each, and a signal before its time is up."""

import re
from collections.abc import Iterator
from pathlib import Path

from cpsc.errors import ConfigError
from tuning.cluster.batch_script.directives import Directives

MIN_NOTICE_S = 60
"""Time to save the trials' states and to deliver the last records."""
_SIGNAL = re.compile(r"B:(?:SIG)?(?P<name>INT|TERM|USR1|USR2)@(?P<notice>\d+)")
_GPU = re.compile(r"gpu(?::[\w.-]+)*?(?::(?P<count>\d+))?")
_COUNT = re.compile(r"(?:[\w.-]+:)?(?P<count>\d+)")
_TIME = re.compile(r"(?:(?P<days>\d+)-(?P<hours>\d+)(?::(?P<minutes>\d+)(?::(?P<seconds>\d+))?)?)|(?P<clock>\d+(?::\d+){0,2})")
GPU_OPTIONS = ("gpus-per-node", "gpus-per-task", "gres")


def check_nodes(found: Directives) -> None:
    nodes = found.get("nodes")
    if nodes is None or not re.fullmatch(r"[1-9]\d*(-[1-9]\d*)?", nodes):
        raise ConfigError(f"#SBATCH --nodes: must be given as a number or a range, got {nodes or 'nothing'}")


def check_one_task_a_node(found: Directives) -> None:
    tasks = found.get("ntasks-per-node")
    if tasks != "1":
        raise ConfigError(f"#SBATCH --ntasks-per-node: must be 1, one Ray per node, got {tasks or 'nothing'}")


def check_whole_nodes(found: Directives) -> None:
    if found.get("exclusive") != "":
        rule = "must be given: `ray symmetric-run` needs a node without another Ray, and ends every Ray of yours there"
        raise ConfigError(f"#SBATCH --exclusive: {rule}, got {found.get('exclusive') or 'nothing'}")


def check_cpus(found: Directives) -> None:
    cpus = found.get("cpus-per-task")
    if cpus is None or not re.fullmatch(r"[1-9]\d*", cpus):
        raise ConfigError(
            f"#SBATCH --cpus-per-task: must be given as a number, or a node has 1 CPU for trials, got {cpus or 'nothing'}"
        )


def check_gpus(found: Directives) -> None:
    """GPUs must be given per node, and only once."""
    if found.get("gpus") is not None:
        raise ConfigError(f"#SBATCH --gpus: does not say on which node, use --gpus-per-node, got {found.get('gpus')}")
    given = [name for name in GPU_OPTIONS if found.get(name) is not None and (name != "gres" or "gpu" in str(found.get(name)))]
    if len(given) > 1:
        raise ConfigError(f"#SBATCH --{given[0]}: must be the only option that requests GPUs, got --{given[1]} too")
    if given and num_gpus(found) is None:
        raise ConfigError(
            f"#SBATCH --{given[0]}: must be a number of GPUs, with or without their type in front, got {found.get(given[0])}"
        )


def num_gpus(found: Directives) -> int | None:
    """GPUs per node: 0 if none are requested, None if the number cannot be read."""
    for name in ("gpus-per-node", "gpus-per-task"):
        if (value := found.get(name)) is not None:
            match = _COUNT.fullmatch(value)
            return int(match["count"]) if match else None
    for part in (found.get("gres") or "").removeprefix("gres/").split(","):
        if part.startswith("gpu"):
            match = _GPU.fullmatch(part)
            return int(match["count"] or 1) if match else None
    return 0


def check_time(found: Directives) -> None:
    time = found.get("time")
    if time is None or not _seconds(time):
        rule = "must be given as minutes, hours:minutes:seconds or days-hours:minutes:seconds"
        raise ConfigError(f"#SBATCH --time: {rule}, got {time or 'nothing'}")


def check_signal(found: Directives) -> None:
    """The signal must go to the script only, which passes it on to the driver only."""
    text = found.get("signal") or "nothing"
    match = _SIGNAL.fullmatch(text)
    if match is None:
        rule = "must be B:INT@SECONDS, SECONDS before the end; without B: Ray's own processes get it too"
        raise ConfigError(f"#SBATCH --signal: {rule}, got {text}")
    notice, limit = int(match["notice"]), _seconds(str(found.get("time")))
    if not MIN_NOTICE_S <= notice < limit:
        raise ConfigError(
            f"#SBATCH --signal: must come at least {MIN_NOTICE_S} s before the end, within --time ({limit} s), got {notice}"
        )


def signal_name(found: Directives) -> str:
    """The signal's name, in a script that `check_signal` has accepted."""
    match = _SIGNAL.fullmatch(str(found.get("signal")))
    assert match is not None
    return match["name"]


def check_requeue(found: Directives) -> None:
    if found.get("requeue") is None or found.get("no-requeue") is not None:
        raise ConfigError("#SBATCH --requeue: must be given, without --no-requeue, or a preempted job does not come back")
    if found.get("open-mode") != "append":
        rule = "must be append, or a requeued job overwrites its log"
        raise ConfigError(f"#SBATCH --open-mode: {rule}, got {found.get('open-mode') or 'nothing'}")


def check_output(found: Directives) -> None:
    output = found.get("output")
    if output is None or not re.search(r"%\d*[jAJ]", output):
        raise ConfigError(f"#SBATCH --output: must be given, with %j, so that each job has its own log, got {output or 'nothing'}")


def doubt_output_folder(found: Directives) -> Iterator[str]:
    """Slurm does not create folders, and a job whose log cannot be opened ends without a message."""
    folder = Path(str(found.get("output"))).parent
    if "%" in str(folder) or not folder.is_dir():
        yield f"#SBATCH --output: {folder} is not a folder on this machine; create it where you submit, Slurm does not"


def _seconds(text: str) -> int:
    """A time limit in one of Slurm's forms, in seconds; 0 if it is not valid. A single number means minutes."""
    match = _TIME.fullmatch(text)
    if match is None:
        return 0
    if match["clock"] is None:
        days, hours, minutes, seconds = (int(match[name] or 0) for name in ("days", "hours", "minutes", "seconds"))
        return ((days * 24 + hours) * 60 + minutes) * 60 + seconds
    parts = [int(part) for part in match["clock"].split(":")]
    hours, minutes, seconds = parts if len(parts) == 3 else (0, parts[0], *parts[1:], 0)[:3]
    return (hours * 60 + minutes) * 60 + seconds
