"""SIGKILL while the champion is registered, in a real sweep and in its resumes: one result is one model in the end."""

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from mlflow import MlflowClient

from tests.support.command_line import call_cli
from tests.support.killing import ROOT
from tests.support.misbehaving import registered_not_once
from tests.support.studies import tiny_study, write_study

pytestmark = [pytest.mark.long, pytest.mark.ray, pytest.mark.timeout(600)]

DYING = """
import os, signal, sys
from mlflow import MlflowClient
from tuning.cli import main

method = sys.argv.pop(1)
original = getattr(MlflowClient, method)

def dying(self, *arguments, **named):
    original(self, *arguments, **named)
    os.kill(os.getpid(), signal.SIGKILL)

setattr(MlflowClient, method, dying)
main()
"""


def die_after(method: str, *arguments: str | Path, cwd: Path) -> None:
    """Run the command line in a process that is killed once MLflow's client has done `method`."""
    command = [sys.executable, "-c", DYING, method, *map(str, arguments)]
    done = subprocess.run(
        command, cwd=cwd, env=os.environ | {"PYTHONPATH": str(ROOT)}, capture_output=True, text=True, timeout=300, check=False
    )
    assert done.returncode == -signal.SIGKILL, done.stderr


def test_a_registration_that_is_killed_again_and_again_leaves_one_model_one_version_and_one_alias(tmp_path: Path) -> None:
    study = tiny_study() | {"search": {"num_trials": 1, "startup_trials": 1}}
    study["config"] |= {"epochs": 2}
    die_after("create_logged_model", "sweep", write_study(tmp_path / "tiny.yaml", study), cwd=tmp_path)
    resume = ("resume", "tiny", "--storage", tmp_path / "runs")
    die_after("create_model_version", *resume, cwd=tmp_path)
    done = call_cli(*resume, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert "the chosen student is registered as models:/tiny@champion" in done.stdout
    client = MlflowClient(tracking_uri=f"sqlite:///{tmp_path / 'runs' / 'mlflow.db'}")
    assert registered_not_once(client, "tiny") == []
