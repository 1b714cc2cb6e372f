"""The head's commands of the files for Slurm and Kubernetes, run here: Ray, the driver and the shells are real, Slurm is not."""

import os
import shlex
import signal
import stat
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping
from pathlib import Path

import psutil
import pytest
import yaml

from tests.support.clusters import until
from tests.support.killing import count_epochs, end, recorded_curves, slow_study, statuses
from tests.support.malformed import sound_teacher
from tests.support.studies import ROOT, tiny_study, write_study

pytestmark = [pytest.mark.ray, pytest.mark.timeout(600)]
NODE = "10.77.0.1"
"""The one node's address, on the loopback of a network that has nothing else."""
ALONE = ["unshare", "--user", "--map-root-user", "--pid", "--fork", "--mount-proc", "--net", "--kill-child"]
"""No other process is seen: `ray symmetric-run` refuses a machine with another Ray, and at its end stops all Rays that it sees."""
PROGRAMS = {
    # A step is a session of its own. The token, which the script removes, is kept for the test.
    "srun": 'cp -p "$RAY_AUTH_TOKEN_PATH" token\nwhile [[ $1 == --* ]]; do shift; done\nexec setsid --wait "$@"',
    "scontrol": 'echo "$*" >> "$RUNS/scontrol.log"',
    "python": f'exec {shlex.quote(sys.executable)} "$@"',
    "ray": f'exec {shlex.quote(sys.executable)} -m ray.scripts.scripts "$@"',
    "cpsc-tune": 'exec python -m tuning "$@" $ADDED',
    "alone": f'ip link set lo up && ip addr add {NODE}/32 dev lo && bash "$@"',
}


@pytest.fixture
def folder(tmp_path: Path) -> Iterator[Path]:
    """With the programs, and with a folder for Ray on a path short enough for its sockets."""
    for name, text in PROGRAMS.items():
        program = tmp_path / "venv" / "bin" / name
        program.parent.mkdir(parents=True, exist_ok=True)
        program.write_text(f"#!/bin/bash\n{text}\n")
        program.chmod(0o755)
    with tempfile.TemporaryDirectory(prefix="ray-", ignore_cleanup_errors=True) as ray_folder:
        (tmp_path / "ray").symlink_to(ray_folder)
        yield tmp_path


def start_job(folder: Path, study: Path, **variables: str) -> subprocess.Popen[bytes]:
    """The repository's script, as Slurm would start it on a job of one node, with what only the user knows filled in."""
    if subprocess.run([*ALONE, "true"], capture_output=True).returncode:
        pytest.skip("this machine allows no namespaces")
    text = (ROOT / "cluster" / "slurm.sbatch").read_text(encoding="utf-8")
    for old, new in {
        "STUDY=digits\n": f"STUDY={study}\n",
        "NAME=digits-cpsc\n": "NAME=tiny\n",
        "RUNS=/YOUR-SHARED-FOLDER/runs\n": f"RUNS={folder / 'runs'}\n",
        "VENV=/YOUR-SHARED-FOLDER/cpsc-tune/.venv\n": f"VENV={folder / 'venv'}\n",
        "resources.gpus=0.25": "resources.gpus=0",
        "search.max_concurrent=32": "search.max_concurrent=1",
    }.items():
        assert old in text
        text = text.replace(old, new)
    script = folder / "slurm_script"
    script.write_text(text, encoding="utf-8")
    slurm = {"JOB_ID": "7", "JOB_NUM_NODES": "1", "CPUS_PER_TASK": "1"}
    environment = os.environ | {f"SLURM_{name}": value for name, value in slurm.items()}
    environment |= {"SLURMD_NODENAME": NODE, "PYTHONPATH": str(ROOT), "RAY_TMPDIR": str((folder / "ray").resolve())}
    with (folder / "job.log").open("ab") as log:
        command: list[str | Path] = [*ALONE, folder / "venv" / "bin" / "alone", script]
        return subprocess.Popen(command, cwd=folder, env=environment | variables, stdin=subprocess.DEVNULL, stdout=log, stderr=log)


def ended(job: subprocess.Popen[bytes], timeout_s: float = 300) -> int:
    try:
        return job.wait(timeout_s)
    finally:
        end(job, signal.SIGKILL)  # and with it all that it has started, which share its namespace


@pytest.mark.long
def test_the_script_for_slurm_runs_a_dry_run_on_a_ray_of_one_node(folder: Path) -> None:
    study = write_study(folder / "tiny.yaml", tiny_study())
    status = ended(start_job(folder, study, ADDED="--dry-run"))
    said = (folder / "job.log").read_text()
    assert status == 0, said
    assert "Head node started" in said
    assert "4 trials of up to 3 epochs" in said
    assert not any((folder / "runs").iterdir()), "the job's token is left behind"
    token = folder / "token"
    assert stat.S_IMODE(token.stat().st_mode) == 0o600
    assert len(token.read_text()) == 64
    assert token.read_text() not in said


@pytest.mark.long
@pytest.mark.timeout(1200)
def test_a_job_that_runs_out_of_time_waits_for_more_and_goes_on(folder: Path) -> None:
    sound_teacher().save(folder / "teacher.pt")
    study = slow_study(folder, teacher=folder / "teacher.pt")
    study["config"]["epochs"] = 3
    study["prune"] = {"scheduler": "none"}
    study["search"] = {"num_trials": 2, "startup_trials": 2}
    file, launch, log = write_study(folder / "tiny.yaml", study), folder / "runs" / "tiny", folder / "job.log"

    job = start_job(folder, file, ADDED="")
    try:
        until(lambda: count_epochs(launch) >= 1, job, log=log, timeout_s=400)
        script_of(job).send_signal(signal.SIGINT)  # as --signal=B:INT does
        assert job.wait(180) != 0
    finally:
        end(job, signal.SIGKILL)
    assert (folder / "runs" / "scontrol.log").read_text() == "requeue 7\n"
    assert statuses(folder / "runs")["tiny"] == "KILLED"

    assert ended(start_job(folder, file, ADDED="")) == 0, log.read_text()[-3000:]
    assert "cpsc-tune resume" in log.read_text()
    assert set(statuses(folder / "runs").values()) == {"FINISHED"}
    epochs = [[epoch for epoch, _ in curves["probe_agreement"]] for curves in recorded_curves(folder / "runs").values()]
    assert epochs == [[1, 2, 3], [1, 2, 3]]
    assert not (folder / "runs" / "tiny-2").exists()


@pytest.mark.long
def test_a_ray_that_does_not_start_is_a_failure_of_the_job(folder: Path) -> None:
    """Ray's own command ends with 0."""
    study = write_study(folder / "tiny.yaml", tiny_study())
    status = ended(start_job(folder, study, ADDED="--dry-run", SLURM_CPUS_PER_TASK="-1"))
    said = (folder / "job.log").read_text()
    assert status == 1, said
    assert f"Ray did not start on {NODE}, see above" in said


def script_of(job: subprocess.Popen[bytes]) -> psutil.Process:
    """The process of the batch script itself."""
    below = psutil.Process(job.pid).children(recursive=True)
    (found,) = [
        process for process in below if process.cmdline()[:1] == ["bash"] and process.cmdline()[-1].endswith("slurm_script")
    ]
    return found


def test_the_entrypoint_for_kubernetes_runs_a_dry_run(folder: Path) -> None:
    """As the head's shell reads it, which Ray's supervisor of jobs starts."""
    job = yaml.safe_load((ROOT / "cluster" / "rayjob.yaml").read_text(encoding="utf-8"))
    entrypoint = job["spec"]["entrypoint"].replace("resources.gpus=0.25", "resources.gpus=0")
    said = run_entrypoint(entrypoint, folder, {"MLFLOW_URI": "http://127.0.0.1:9", "ADDED": "--dry-run"})
    assert "16 trials of up to 9 epochs" in said
    assert "http://127.0.0.1:9" in said
    assert "storage: /mnt/runs" in said


def test_the_entrypoint_for_kubernetes_goes_on_with_a_launch(folder: Path) -> None:
    job = yaml.safe_load((ROOT / "cluster" / "rayjob.yaml").read_text(encoding="utf-8"))
    (folder / "digits-cpsc").mkdir()
    (folder / "digits-cpsc" / "journal.jsonl").touch()
    (folder / "venv" / "bin" / "cpsc-tune").write_text('#!/bin/bash\nprintf "%s\\n" "$@"\n')
    entrypoint = job["spec"]["entrypoint"].replace("/mnt/runs", str(folder))
    said = run_entrypoint(entrypoint, folder, {"MLFLOW_URI": "http://127.0.0.1:9"})
    assert said.split() == ["resume", "digits-cpsc", "--storage", str(folder), "--address", "auto", "--quiet"]


def run_entrypoint(entrypoint: str, folder: Path, variables: Mapping[str, str]) -> str:
    environment = (
        os.environ | {"PATH": f"{folder / 'venv' / 'bin'}:{os.environ['PATH']}", "PYTHONPATH": str(ROOT)} | dict(variables)
    )
    done = subprocess.run(entrypoint, shell=True, cwd=folder, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout
