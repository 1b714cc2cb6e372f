"""A study small enough to run in seconds, and the command line as a user calls it."""

import io
import os
import subprocess
import sys
from contextlib import chdir, redirect_stderr, redirect_stdout
from pathlib import Path
from typing import Any
from unittest import mock

import yaml

from tuning import cli
from tuning.study.user_code import looking_back

ROOT = Path(__file__).parents[2]


def tiny_study() -> dict[str, Any]:
    """Digits with networks and budgets so small that only the machinery is left to test."""
    return {
        "name": "tiny",
        "config": {
            "dataset": "digits",
            "teacher": {"arch": "wrn_10_1", "epochs": 1, "batch_size": 64, "warmup_epochs": 0},
            "probe": {"num_images": 20, "batch_size": 20, "steps": 2},
            "student": {"arch": "wrn_10_1", "warmup_epochs": 1},
            "generator": {"width": 8, "latent_dim": 16},
            "schedule": {"iterations": 2, "generator_steps": 1, "student_steps": 2, "batch_size": 16},
            "epochs": 3,
            "precision": "fp32",
        },
        "space": {"weights.l2": {"loguniform": [0.1, 10]}, "contrast_temperature": {"uniform": [0.05, 1.0]}},
        "start": [{"weights.l2": 1.0}],
        "search": {"num_trials": 4, "startup_trials": 2},
        "prune": {"grace_epochs": 1, "reduction_factor": 2},
    }


def write_study(path: Path, study: dict[str, Any]) -> Path:
    """The study as a file."""
    path.write_text(yaml.safe_dump(study), encoding="utf-8")
    return path


def run_cli(*arguments: str | Path, cwd: Path, timeout: float = 240, **environment: str) -> subprocess.CompletedProcess[str]:
    """``python -m tuning`` in a process of its own, in `cwd`, as a user would call it."""
    inherited = os.environ | {"PYTHONPATH": os.pathsep.join(filter(None, [str(ROOT), os.environ.get("PYTHONPATH")]))}
    return subprocess.run(
        [sys.executable, "-m", "tuning", *map(str, arguments)],
        cwd=cwd,
        env=inherited | environment,
        capture_output=True,
        text=True,
        timeout=timeout,
        stdin=subprocess.DEVNULL,
        check=False,
    )


def call_cli(*arguments: str | Path, cwd: Path) -> subprocess.CompletedProcess[str]:
    """The same in this process, where the libraries are imported already: what a process of its own costs is ten seconds."""
    words, out, err = ["cpsc-tune", *map(str, arguments)], io.StringIO(), io.StringIO()
    with chdir(cwd), looking_back(), mock.patch.object(sys, "argv", words), redirect_stdout(out), redirect_stderr(err):
        try:
            cli.main()
            status: Any = 0
        except SystemExit as ended:
            status = ended.code or 0
    return subprocess.CompletedProcess(words, status, out.getvalue(), err.getvalue())
