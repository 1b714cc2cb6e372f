"""``#SBATCH`` lines: what a job requests from Slurm, with the options of sbatch(1) in Slurm 25.11."""

import shlex
import subprocess
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from cpsc.errors import ConfigError
from tuning.study.near_misses import hint

PREFIX = "#SBATCH"
SHORT: Mapping[str, str] = {
    "A": "account",
    "a": "array",
    "B": "extra-node-info",
    "b": "begin",
    "C": "constraint",
    "c": "cpus-per-task",
    "D": "chdir",
    "d": "dependency",
    "e": "error",
    "F": "nodefile",
    "G": "gpus",
    "H": "hold",
    "h": "help",
    "i": "input",
    "J": "job-name",
    "k": "no-kill",
    "L": "licenses",
    "M": "clusters",
    "m": "distribution",
    "N": "nodes",
    "n": "ntasks",
    "O": "overcommit",
    "o": "output",
    "p": "partition",
    "Q": "quiet",
    "q": "qos",
    "S": "core-spec",
    "s": "oversubscribe",
    "t": "time",
    "V": "version",
    "v": "verbose",
    "W": "wait",
    "w": "nodelist",
    "x": "exclude",
}
_FLAGS = """
    consolidate-segments contiguous external help hold ignore-pbs no-requeue overcommit oversubscribe parsable quiet reboot requeue
    spread-job spread-segments stepmgr test-only usage use-min-nodes verbose version wait
"""
FLAGS = frozenset(_FLAGS.split())
"""Options that take no value."""
_MAY_HAVE_VALUE = "exclusive get-user-env nice no-kill oom-kill-step propagate resv-ports"
MAY_HAVE_VALUE = frozenset(_MAY_HAVE_VALUE.split())
"""Options whose value, if any, follows an equals sign."""
_WITH_VALUE = """
    account acctg-freq array batch bb bbf begin chdir cluster-constraint clusters comment constraint container container-id
    core-spec cores-per-socket cpu-freq cpus-per-gpu cpus-per-task deadline delay-boot dependency distribution error exclude
    export export-file extra extra-node-info gid gpu-bind gpu-freq gpus gpus-per-node gpus-per-socket gpus-per-task gres
    gres-flags hint input job-name kill-on-invalid-dep licenses mail-type mail-user mcs-label mem mem-bind mem-per-cpu
    mem-per-gpu mincpus network nodefile nodelist nodes ntasks ntasks-per-core ntasks-per-gpu ntasks-per-node
    ntasks-per-socket open-mode output partition power prefer priority profile qos reservation resources segment signal
    sockets-per-node switches thread-spec threads-per-core time time-min tmp tres-bind tres-per-task uid wait-all-nodes
    wckey wrap
"""
KNOWN = frozenset(_WITH_VALUE.split()) | FLAGS | MAY_HAVE_VALUE


@dataclass(frozen=True)
class Directives:
    """Options by their long names; the last of repeated ones wins, as in Slurm. Flags have the value ""."""

    options: Mapping[str, str]

    def get(self, name: str) -> str | None:
        """The value of an option, or None if it is not given."""
        return self.options.get(name)


def parse(text: str) -> Directives:
    """The options before the script's first command. ConfigError for one that sbatch does not know or would not read."""
    lines = text.splitlines()
    if not text.startswith("#!"):
        raise ConfigError(f"line 1: must name the shell, e.g. #!/bin/bash, or sbatch refuses the script, got {lines[0]!r}")
    options: dict[str, str] = {}
    begun = False
    for number, line in enumerate(lines, start=1):
        if line.startswith(PREFIX) and begun:
            raise ConfigError(f"line {number}: sbatch ignores {PREFIX} after the first command, move it up")
        if line.startswith(PREFIX):
            options |= _options(line.removeprefix(PREFIX), f"line {number}")
        begun = begun or bool(line.strip() and not line.lstrip().startswith("#"))
    return Directives(options)


def _options(text: str, where: str) -> dict[str, str]:
    try:
        words = shlex.split(text, comments=True)
    except ValueError as error:
        raise ConfigError(f"{where}: {text.strip()!r} cannot be read ({error})") from error
    found: dict[str, str] = {}
    while words:
        name, value = _option(words.pop(0), where)
        if value is None and name in FLAGS | MAY_HAVE_VALUE:
            value = ""
        elif value is None:
            if not words:
                raise ConfigError(f"{where}: --{name} must have a value")
            value = words.pop(0)
        if "$" in value:
            raise ConfigError(f"{where}: --{name}: sbatch does not expand variables, write the value out, got {value}")
        found[name] = value
    return found


def _option(word: str, where: str) -> tuple[str, str | None]:
    """The long name of an option, and its value if it is part of the word."""
    if word.startswith("--"):
        name, equals, value = word.removeprefix("--").partition("=")
        if name not in KNOWN:
            raise ConfigError(f"{where}: --{name}: sbatch has no such option{hint(name, KNOWN)}")
        return name, value if equals else None
    if word.startswith("-") and word[1:2] in SHORT:
        return SHORT[word[1]], word[2:].removeprefix("=") or None
    raise ConfigError(f"{where}: {word}: sbatch has no such option")


def check_syntax(path: Path) -> list[str]:
    """Let bash parse the script without running it. ConfigError if that fails; a remark if there is no bash."""
    try:
        read = subprocess.run(["bash", "-n", "--", path], capture_output=True, text=True, timeout=30, check=False)
    except OSError:
        return ["the script's syntax was not checked, since there is no bash on this machine"]
    if read.returncode:
        raise ConfigError(read.stderr.splitlines()[0].removeprefix(f"{path}: "))
    return []
