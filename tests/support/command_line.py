"""The command line as a user calls it."""

import io
import os
import subprocess
import sys
from collections.abc import Callable
from contextlib import chdir, redirect_stderr, redirect_stdout
from pathlib import Path
from typing import Any
from unittest import mock

from tests.support.studies import ROOT
from tuning import cli
from tuning.study.user_code import looking_back


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


def call_cli(*arguments: str | Path, cwd: Path, main: Callable[[], None] = cli.main) -> subprocess.CompletedProcess[str]:
    """The same in this process, where the libraries are imported already: what a process of its own costs is ten seconds.

    `main`: of another program than ``cpsc-tune``.
    """
    words, out, err = ["cpsc-tune", *map(str, arguments)], io.StringIO(), io.StringIO()
    with chdir(cwd), looking_back(), mock.patch.object(sys, "argv", words), redirect_stdout(out), redirect_stderr(err):
        try:
            main()
            status: Any = 0
        except SystemExit as ended:
            status = ended.code or 0
    return subprocess.CompletedProcess(words, status, out.getvalue(), err.getvalue())
