"""Trials on a busy machine: with Ray's priority for its workers, and with the sweep's own.

``python -m tests.benchmarks.trial_priority`` runs a small sweep beside processes that occupy the cores, each time in its own
process, and prints medians over rounds: seconds from the first proposal to the start of its trial, and from there to the end.
"""

import argparse
import json
import statistics
import tempfile
from pathlib import Path
from unittest import mock

from cpsc.processors import num_processors
from tests.benchmarks.busy_machine import busy_loops
from tests.benchmarks.own_process import in_a_process
from tests.support.studies import tiny_study, write_study
from tuning.cluster import session
from tuning.display import Display
from tuning.launch import Journal
from tuning.launch.events import LaunchEnd, Proposed, TrialStart
from tuning.study import load_study
from tuning.sweep import run_sweep

RAYS_OWN = 15
SETTING = "worker_niceness"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--beside", type=int, default=num_processors(), help="number of processes that occupy the cores")
    parser.add_argument("--niceness", type=int, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.niceness is not None:
        print(json.dumps(sweep(options.niceness)))
        return
    kinds = {"Ray's": RAYS_OWN, "the sweep's": session.SYSTEM_CONFIG[SETTING]}
    found: dict[str, list[dict[str, float]]] = {kind: [] for kind in kinds}
    for _ in range(options.rounds):
        for kind, niceness in kinds.items():
            with busy_loops(options.beside):
                found[kind].append(in_a_process(__spec__.name, "--niceness", niceness))
    print("| priority of trials | start of the first trial, s | all trials, s |\n|---|---|---|")
    for kind, runs in found.items():
        start_s, trials_s = (statistics.median(run[key] for run in runs) for key in ("start_s", "trials_s"))
        print(f"| {kind} | {start_s:.1f} | {trials_s:.1f} |")


def sweep(niceness: int) -> dict[str, float]:
    """Seconds until the first trial starts, and from there to the end of the sweep."""
    with tempfile.TemporaryDirectory(prefix="cpsc-bench-") as folder, mock.patch.dict(session.SYSTEM_CONFIG, {SETTING: niceness}):
        content = tiny_study() | {"storage": f"{folder}/runs", "search": {"sampler": "random", "num_trials": 4}}
        study = load_study(write_study(Path(folder) / "tiny.yaml", content))
        run_sweep(study, Display(quiet=True))
        times: dict[type, float] = {}
        for event in Journal(study.local / study.name).events():
            times.setdefault(type(event), event.time)
    return {"start_s": times[TrialStart] - times[Proposed], "trials_s": times[LaunchEnd] - times[TrialStart]}


if __name__ == "__main__":
    main()
