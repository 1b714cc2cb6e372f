"""The repository's script for Slurm passes; every mistake in it is told in one line, most of them although sbatch accepts them."""

from collections.abc import Callable
from pathlib import Path

import pytest

from tests.unit.tuning.cluster_edits import ROOT, check_cluster_file, refusal

pytestmark = pytest.mark.slow  # what `ray start` takes is read from Ray, whose command line takes seconds to import
SCRIPT = ROOT / "cluster" / "slurm.sbatch"
Edit = Callable[[str], str]
STEP = "`ray symmetric-run`"
COMMAND = "the command after --"


def instead(old: str, new: str) -> Edit:
    """Replace text; it must be there."""

    def edit(text: str) -> str:
        assert old in text
        return text.replace(old, new)

    return edit


def option(name: str, line: str) -> Edit:
    """Another line instead of an option's; "" takes it out."""

    def edit(text: str) -> str:
        lines = text.splitlines(keepends=True)
        (index,) = [index for index, each in enumerate(lines) if each.startswith(f"#SBATCH --{name}")]
        return "".join([*lines[:index], f"#SBATCH {line}\n" if line else "", *lines[index + 1 :]])

    return edit


def written(tmp_path: Path, edit: Edit) -> Path:
    path = tmp_path / "job.sbatch"
    path.write_text(edit(SCRIPT.read_text(encoding="utf-8")), encoding="utf-8")
    return path


def test_the_script_of_the_repository_passes_in_silence(capfd: pytest.CaptureFixture[str]) -> None:
    assert check_cluster_file(SCRIPT) == []
    assert capfd.readouterr() == ("", "")


@pytest.mark.parametrize(
    "edit",
    [
        option("nodes", "-N 4"),
        option("nodes", "--nodes 2-4 --partition=gpu # both"),
        option("cpus-per-task", "-c8"),
        option("gpus-per-node", "--gres=gpu:a100:4"),
        option("gpus-per-node", "--gres=gres/gpu:2,nvme:1"),
        option("gpus-per-node", "--gpus-per-node=a100:4"),
        option("gpus-per-node", "--gpus-per-task=4"),
        option("gpus-per-node", ""),
        option("time", "-t 2-12"),
        option("time", "-t 90"),
        option("time", "--time=1-12:30:00"),
        option("signal", "--signal=B:SIGINT@600"),
        instead("srun --nodes", "SRUN_VERBOSE=1 srun --nodes"),
        instead('--num-cpus="$SLURM_CPUS_PER_TASK"', "--num-cpus=16"),
        instead('--min-nodes "$SLURM_JOB_NUM_NODES"', "--min-nodes=${SLURM_NNODES}"),
        instead("exec cpsc-tune sweep", "exec python -m tuning sweep"),
        instead("--storage", "--json --storage"),
        instead("STUDY=digits\n", "STUDY=search_spaces/digits.yaml\n"),
        instead(' --set storage="$RUNS"', ' --set storage=s3://bucket/cpsc --set local="$RUNS"'),
    ],
)
def test_other_ways_to_write_the_same_pass(tmp_path: Path, edit: Edit, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(ROOT)
    assert check_cluster_file(written(tmp_path, edit)) == []


@pytest.mark.parametrize(
    ("edit", "message"),
    [
        (
            instead("#!/bin/bash\n", "# A sweep\n"),
            "line 1: must name the shell, e.g. #!/bin/bash, or sbatch refuses the script, got",
        ),
        (option("nodes", "--node=2"), "--node: sbatch has no such option, did you mean nodes?"),
        (option("gpus-per-node", "--gpu-per-node=4"), "--gpu-per-node: sbatch has no such option, did you mean gpus-per-node?"),
        (option("exclusive", "--Exclusive"), "--Exclusive: sbatch has no such option, did you mean exclusive?"),
        (option("exclusive", "-X"), "-X: sbatch has no such option"),
        (option("output", "--output"), "--output must have a value"),
        (
            option("output", "--output=$HOME/%j.log"),
            "--output: sbatch does not expand variables, write the value out, got $HOME/%j.log",
        ),
        (option("output", "--output='%j.log"), "cannot be read (No closing quotation)"),
        (
            instead("\nSTUDY=digits", "\nSTUDY=digits\n#SBATCH --partition=gpu"),
            "sbatch ignores #SBATCH after the first command, move it up",
        ),
        (option("nodes", ""), "#SBATCH --nodes: must be given as a number or a range, got nothing"),
        (option("nodes", "--nodes=two"), "#SBATCH --nodes: must be given as a number or a range, got two"),
        (option("ntasks-per-node", ""), "#SBATCH --ntasks-per-node: must be 1, one Ray per node, got nothing"),
        (option("ntasks-per-node", "--ntasks-per-node=16"), "#SBATCH --ntasks-per-node: must be 1, one Ray per node, got 16"),
        (option("exclusive", ""), "#SBATCH --exclusive: must be given: `ray symmetric-run` needs a node without another Ray"),
        (option("exclusive", "--exclusive=user"), "and ends every Ray of yours there, got user"),
        (
            option("cpus-per-task", ""),
            "#SBATCH --cpus-per-task: must be given as a number, or a node has 1 CPU for trials, got nothing",
        ),
        (
            option("cpus-per-task", "-c 0"),
            "#SBATCH --cpus-per-task: must be given as a number, or a node has 1 CPU for trials, got 0",
        ),
        (option("gpus-per-node", "--gpus=8"), "#SBATCH --gpus: does not say on which node, use --gpus-per-node, got 8"),
        (
            option("gpus-per-node", "--gpus-per-node=4 --gres=gpu:4"),
            "#SBATCH --gpus-per-node: must be the only option that requests GPUs, got --gres too",
        ),
        (
            option("gpus-per-node", "--gpus-per-node=0.5"),
            "#SBATCH --gpus-per-node: must be a number of GPUs, with or without their type in front, got 0.5",
        ),
        (option("gpus-per-node", "--gres=gpu:four:"), "#SBATCH --gres: must be a number of GPUs"),
        (
            option("time", ""),
            "#SBATCH --time: must be given as minutes, hours:minutes:seconds or days-hours:minutes:seconds, got nothing",
        ),
        (option("time", "--time=12h"), "#SBATCH --time: must be given as minutes, hours:minutes:seconds or"),
        (option("signal", ""), "#SBATCH --signal: must be B:INT@SECONDS, SECONDS before the end"),
        (option("signal", "--signal=INT@300"), "without B: Ray's own processes get it too, got INT@300"),
        (option("signal", "--signal=B:INT"), "#SBATCH --signal: must be B:INT@SECONDS, SECONDS before the end"),
        (
            option("signal", "--signal=B:INT@5"),
            "#SBATCH --signal: must come at least 60 s before the end, within --time (43200 s), got 5",
        ),
        (option("time", "--time=4"), "#SBATCH --signal: must come at least 60 s before the end, within --time (240 s), got 300"),
        (option("signal", "--signal=B:USR2@300"), "must trap USR2, which #SBATCH --signal requests, and end the driver cleanly"),
        (option("requeue", ""), "#SBATCH --requeue: must be given, without --no-requeue, or a preempted job does not come back"),
        (option("requeue", "--requeue --no-requeue"), "#SBATCH --requeue: must be given, without --no-requeue"),
        (option("open-mode", ""), "#SBATCH --open-mode: must be append, or a requeued job overwrites its log, got nothing"),
        (option("output", ""), "#SBATCH --output: must be given, with %j, so that each job has its own log, got nothing"),
        (option("output", "--output=sweep.log"), "#SBATCH --output: must be given, with %j"),
        (instead("while true; do", "while true"), "syntax error near unexpected token"),
        (instead("stop() {", "stop() {{"), "syntax error"),
        (instead("srun --nodes", "mpirun --nodes"), "must run `srun ... ray symmetric-run ... -- ...` once, got 0 times"),
        (instead("    -- bash", "    bash"), f"{STEP}: must have the command for the head after --, got none"),
        (
            instead(' --cpus-per-task="$SLURM_CPUS_PER_TASK"', ""),
            'srun: must have --cpus-per-task="$SLURM_CPUS_PER_TASK", or all trials of a node share 1 CPU, got none',
        ),
        (instead("--num-cpus=", "--num-cpu="), f"{STEP}: --num-cpu: `ray start` has no such option, did you mean --num-cpus?"),
        (instead("--num-cpus=", "--port=6380 --num-cpus="), f"{STEP}: sets --port itself, leave it out"),
        (instead("--num-cpus=", "--head --num-cpus="), f"{STEP}: sets --head itself, leave it out"),
        (
            instead("--num-cpus=", "--include-dashboard=false --num-cpus="),
            f"{STEP}: must not have --include-dashboard: all nodes get the same options, and with it only the head starts",
        ),
        (
            instead("--num-cpus=", "--dashboard-host=0.0.0.0 --num-cpus="),
            f"{STEP}: --dashboard-host must be 127.0.0.1, since the dashboard accepts jobs, got 0.0.0.0",
        ),
        (instead('"$head:6379"', "127.0.0.1:6379"), f"{STEP}: --address must be the first node's, with a port"),
        (instead('"$head:6379"', '"$head"'), f"{STEP}: --address must be the first node's, with a port"),
        (
            instead(' --min-nodes "$SLURM_JOB_NUM_NODES"', ""),
            f'{STEP}: must have --min-nodes "$SLURM_JOB_NUM_NODES", got none',
        ),
        (instead('--min-nodes "$SLURM_JOB_NUM_NODES"', "--min-nodes 3"), "got 3"),
        (
            instead('--num-cpus="$SLURM_CPUS_PER_TASK"', "--num-cpus=32"),
            f'{STEP}: must have --num-cpus="$SLURM_CPUS_PER_TASK", got 32',
        ),
        (
            instead('--num-gpus="${SLURM_GPUS_ON_NODE:-0}"', "--num-gpus=8"),
            f'{STEP}: must have --num-gpus="${{SLURM_GPUS_ON_NODE:-0}}", got 8',
        ),
        (
            instead("RAY_AUTH_MODE=token ", ""),
            "must export RAY_AUTH_MODE=token, or whoever reaches Ray's ports can run anything, got nothing",
        ),
        (instead("RAY_AUTH_TOKEN_PATH=", "RAY_TOKEN_PATH="), "must export RAY_AUTH_TOKEN_PATH, a file that all nodes see"),
        (
            instead("trap 'stop INT' INT", ""),
            "must trap INT, which #SBATCH --signal requests, and end the driver cleanly, got no such trap",
        ),
        (instead("scontrol requeue", "scontrol show job"), 'must run scontrol requeue "$SLURM_JOB_ID" when time has run out'),
        (
            instead("exec cpsc-tune resume", "exec cpsc-tune replay"),
            f"{COMMAND}: `cpsc-tune replay ...`: no such option: --address",
        ),
        (
            instead("exec cpsc-tune sweep", "exec cpsc-tune swep"),
            f"{COMMAND}: `cpsc-tune swep ...`: no such command 'swep', did you mean",
        ),
        (instead("--quiet --set name", "--queit --set name"), f"{COMMAND}: `cpsc-tune sweep ...`: no such option: --queit"),
        (
            instead('sweep "$STUDY" --address auto', 'sweep "$STUDY"'),
            f"{COMMAND}: cpsc-tune sweep must have --address auto, got none",
        ),
        (
            instead("exec cpsc-tune resume", "echo"),
            f"{COMMAND}: must run `cpsc-tune sweep` once to begin the launch, and `cpsc-tune resume` once to continue it, got "
            "`cpsc-tune resume` 0 times",
        ),
        (
            instead("search.max_concurrent=32", "search.max_concurent=32"),
            "study.search.max_concurent: unknown key, did you mean max_concurrent?",
        ),
        (instead("STUDY=digits\n", "STUDY=digit\n"), "`cpsc-tune sweep digit`: digit: neither a file nor a packaged study"),
        (
            instead('resume "$NAME"', "resume digits-2"),
            f"{COMMAND}: `cpsc-tune resume` must name the launch that `sweep` begins, digits-cpsc, got digits-2",
        ),
        (
            instead('--storage "$RUNS"', "--storage runs"),
            f"{COMMAND}: the --storage of `cpsc-tune resume` must be what `sweep` sets as storage or local, /YOUR-SHARED",
        ),
        (
            instead("\nset -u", "\nexport MLFLOW_TRACKING_PASSWORD=hunter2\nset -u"),
            "holds a secret in plain text, keep it in a file that only you can read, and read it from there",
        ),
        (instead("resources.gpus=0.25", "tracking.uri=https://me:hunter2@host"), "holds a secret in plain text"),
    ],
)
def test_a_mistake_is_told_in_one_line(tmp_path: Path, edit: Edit, message: str) -> None:
    said = refusal(written(tmp_path, edit))
    assert message in said
    assert "hunter2" not in said


def test_what_cannot_be_told_is_a_doubt(tmp_path: Path) -> None:
    path = written(tmp_path, option("output", "--output=absent/%j.log"))
    assert check_cluster_file(path) == [
        f"{path}: #SBATCH --output: absent is not a folder on this machine; create it where you submit, Slurm does not"
    ]
    path = written(tmp_path, instead("STUDY=digits\n", "STUDY=/on-the-cluster/digits.yaml\n"))
    assert check_cluster_file(path) == [
        f"{path}: {COMMAND}: the study /on-the-cluster/digits.yaml is not on this machine, so its settings were not checked"
    ]


def test_a_script_of_any_bytes_is_refused_in_one_line(tmp_path: Path) -> None:
    path = tmp_path / "job.sbatch"
    path.write_bytes(b"#!/bin/bash\n\xff\xfe")
    assert refusal(path) == "must be a shell script, got bytes that are not UTF-8 text"
    path.write_bytes(b"#!/bin/bash\n" + b"#" * 300_000)
    assert refusal(path) == "must be a shell script for sbatch, got more than 200000 bytes"
    path.write_bytes(b"#!/bin/bash\n")
    assert refusal(path).startswith("#SBATCH --nodes: must be given")
