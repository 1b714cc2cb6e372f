"""What the driver of a sweep costs beside what a user of stock Ray would write: Tuner, OptunaSearch, ASHA, MLflowLoggerCallback.

``python -m tests.benchmarks.stock_ray`` runs both on trials that train nothing, in turn, each in a process and a folder of its own,
and which of the two comes first alternates. The same for both: the trainable with its metrics and the files of its checkpoints,
the numbers of trials, epochs and trials at a time, two checkpoints kept of each trial, ASHA's rungs, TPE with its seed and number
of random points, the first point, MLflow on SQLite, workers that are reused. Stock Ray is spared what a setting spares it (its
dashboard, its tables on the console) and has otherwise its defaults: files of logs for each trial, snapshots of the experiment.

Counted is from the first trial's start until all is recorded and Ray is down: CPU time of the driver's process, and wall time, in
which the workers share the processors with it. What is on disk at the end is counted without the study's inputs and without
what Ray keeps in the system's temporary folder.

What each gives for it differs:

- Ours writes a journal, and a sweep that was killed is rebuilt from it, with ASHA's rungs and Optuna's study. Stock Ray writes
  snapshots, now and then and whenever a trial has made as many checkpoints as are kept; a sweep that `Tuner.restore` goes on
  with from them has lost its rungs, and its unfinished trials get second MLflow runs.
- Ours tells MLflow beside the sweep's loop, in batches, and a server that is away ends nothing. The callback makes a request a
  value inside the loop, and what it raises there ends the sweep.
- Ours puts each trial's last checkpoint, pictures and whole configuration into MLflow, nests trials under their launch and says
  which were pruned. With `save_artifact` the callback puts Ray's log files there, which hold the metrics again, but no
  checkpoint, and it calls a pruned trial FINISHED. Its metrics are also Ray's own, and the searched values at each epoch.
- Ours registers the champion, after the time that is counted; its files count as artifacts on disk. And it mirrors Optuna's
  study into a file for dashboards. Stock Ray has that study in its snapshots, where pruned trials are complete ones.
- Stock Ray writes TensorBoard's, CSV and JSON files of each trial.

Trials report as they come: with the same points the two may prune others, and what a trial costs hangs on its epochs, too.
"""

import argparse
import json
import logging
import statistics
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import ray
from mlflow import MlflowClient
from optuna.samplers import TPESampler
from ray import tune
from ray.air.integrations.mlflow import MLflowLoggerCallback
from ray.tune.execution.tune_controller import TuneController
from ray.tune.logger import CSVLoggerCallback, JsonLoggerCallback, TBXLoggerCallback
from ray.tune.schedulers import ASHAScheduler
from ray.tune.search.optuna import OptunaSearch

from tests.benchmarks.driver import SPACE, WATCHED, Size, add_size, machine, measure, study_of
from tests.benchmarks.own_process import in_a_process
from tests.benchmarks.sweep_meter import SweepMeter, Watched
from tests.benchmarks.untrained import CurveTrainable
from tuning.cluster.ray_compat import milestones_of
from tuning.display import Display
from tuning.search.asha import build_scheduler
from tuning.search.first_points import begins_with
from tuning.sqlite import sqlite_uri
from tuning.study import Study
from tuning.sweep.tuner import CHECKPOINTS_KEPT, MAX_FAILURES
from tuning.trial import prepare
from tuning.trial.context import trial_context

MODULE = "tests.benchmarks.stock_ray"
OURS, STOCK = "ours", "stock Ray"
LOGGER_HOOKS = ("log_trial_start", "log_trial_result", "log_trial_end")
STOCK_WATCHED = Watched(
    on_the_loop={
        "OptunaSearch": (OptunaSearch, ("suggest", "on_trial_result", "on_trial_complete")),
        "ASHAScheduler": (ASHAScheduler, ("on_trial_add", "on_trial_result", "on_trial_complete", "on_trial_remove")),
        "MLflowLoggerCallback": (MLflowLoggerCallback, LOGGER_HOOKS),
        "CSV": (CSVLoggerCallback, LOGGER_HOOKS),
        "JSON": (JsonLoggerCallback, LOGGER_HOOKS),
        "TensorBoard": (TBXLoggerCallback, LOGGER_HOOKS),
        "snapshots": (TuneController, ("save_to_dir",)),
    },
    in_a_thread={},
    trial_start=(MLflowLoggerCallback, "log_trial_start"),
    trial_result=(MLflowLoggerCallback, "log_trial_result"),
    trial_end=(MLflowLoggerCallback, "log_trial_end"),
    delivered=(ray, "shutdown"),
)
PARTS = {OURS: WATCHED, STOCK: STOCK_WATCHED}
INPUTS = ("teacher.pt", "runs/teachers", "runs/probes")
"""What both sweeps begin with."""
KINDS = ("checkpoints", "MLflow's database", "MLflow's artifacts", "the rest")

Row = Callable[[dict[str, Any]], float]


def stock_tuner(study: Study, size: Size, store: str) -> tune.Tuner:
    """The experiment as Ray's and Optuna's guides write it, in the current folder; `store`: MLflow's."""
    assets = prepare(study, Display(quiet=True))
    context = trial_context(assets.fit(study), assets)
    scheduler = ASHAScheduler(
        time_attr="epoch",
        max_t=size.epochs,
        grace_period=study.prune.grace_epochs,
        reduction_factor=study.prune.reduction_factor,
    )
    assert milestones_of(scheduler) == milestones_of(build_scheduler(study)), "the rungs are others than ours"
    return tune.Tuner(
        tune.with_resources(tune.with_parameters(CurveTrainable, context=context), {"cpu": study.resources.cpus}),
        param_space={"point": {path: tune.loguniform(*domain["loguniform"]) for path, domain in SPACE.items()}},
        tune_config=tune.TuneConfig(
            metric=study.metric,
            mode="max",
            search_alg=OptunaSearch(
                sampler=TPESampler(seed=study.search.seed, n_startup_trials=study.search.startup_trials),
                points_to_evaluate=[{f"point/{path}": point[path] for path in SPACE} for point in begins_with(study)],
            ),
            scheduler=scheduler,
            num_samples=size.trials,
            max_concurrent_trials=size.at_a_time,
            reuse_actors=True,
        ),
        run_config=tune.RunConfig(
            name="stock",
            storage_path=str(Path("ray_results").absolute()),
            callbacks=[MLflowLoggerCallback(tracking_uri=store, experiment_name="stock", save_artifact=True)],
            checkpoint_config=tune.CheckpointConfig(num_to_keep=CHECKPOINTS_KEPT, checkpoint_frequency=1),
            failure_config=tune.FailureConfig(max_failures=MAX_FAILURES),
            verbose=0,
        ),
    )


def measure_stock(size: Size) -> dict[str, Any]:
    """One sweep of stock Ray in this process, in the current folder -> the same as the driver's `measure`."""
    study, meter = study_of(size), SweepMeter(STOCK_WATCHED)
    store = sqlite_uri(Path("mlflow.db").absolute())
    MlflowClient(tracking_uri=store).search_experiments()  # makes the tables
    with meter.watching():
        started = time.monotonic()
        ray.init(
            address="local", num_cpus=size.at_a_time, include_dashboard=False, log_to_driver=False, logging_level=logging.ERROR
        )
        results = stock_tuner(study, size, store).fit()
        ray.shutdown()
        elapsed_s = time.monotonic() - started
    assert len(results) == size.trials, f"{len(results)} trials of {size.trials}"
    assert not results.errors, "a trial has failed"
    return {"trials": size.trials, "elapsed_s": elapsed_s} | meter.measured()


def on_disk(folder: Path) -> dict[str, int]:
    """Bytes that a sweep has left in `folder`, by kind, and the number of its files."""
    found: Counter[str] = Counter(dict.fromkeys((*KINDS, "files"), 0))
    for file in folder.rglob("*"):
        name = file.relative_to(folder)
        if file.is_file() and not any(name.is_relative_to(given) for given in INPUTS):
            found[_kind(name)] += file.stat().st_size
            found["files"] += 1
    return dict(found)


def _kind(name: Path) -> str:
    if {"mlflow-artifacts", "mlruns"} & set(name.parts):
        return "MLflow's artifacts"
    if name.name.startswith("mlflow.db"):
        return "MLflow's database"
    return "checkpoints" if any(part.startswith("checkpoint_") for part in name.parts) else "the rest"


def side_by_side(rounds: list[dict[str, dict[str, Any]]]) -> str:
    """Medians of the rounds, and the ratio of stock Ray to ours, taken within a round: its median, least and most."""
    rows: dict[str, Row] = {
        "CPU time of the driver, ms a trial": lambda side: 1000 * side["total_s"] / side["trials"],
        "CPU time of the driver, ms an epoch": lambda side: 1000 * side["total_s"] / side["results"],
        "wall time, ms a trial": lambda side: 1000 * side["wall_s"] / side["trials"],
        "wall time, ms an epoch": lambda side: 1000 * side["wall_s"] / side["results"],
        "the whole sweep with Ray's start, s": lambda side: side["elapsed_s"],
        "on disk, kB a trial": lambda side: sum(side["disk"][kind] for kind in KINDS) / 1000 / side["trials"],
        **{f"of it {kind}": _kept(kind) for kind in KINDS},
        "files a trial": lambda side: side["disk"]["files"] / side["trials"],
    }
    shown = [_row(name, row, rounds) for name, row in rows.items()]
    return "\n".join([f"| | {OURS} | {STOCK} | ratio |", "|---|---|---|---|", *shown])


def _kept(kind: str) -> Row:
    return lambda side: side["disk"][kind] / 1000 / side["trials"]


def _row(name: str, row: Row, rounds: list[dict[str, dict[str, Any]]]) -> str:
    ours, stock = ([row(sides[side]) for sides in rounds] for side in (OURS, STOCK))
    ratios = [theirs / own if own else float("inf") for own, theirs in zip(ours, stock, strict=True)]
    medians = " | ".join(f"{statistics.median(values):.1f}" for values in (ours, stock))
    return f"| {name} | {medians} | {statistics.median(ratios):.2f} ({min(ratios):.2f}-{max(ratios):.2f}) |"


def by_part(side: str, rounds: list[dict[str, dict[str, Any]]]) -> str:
    """What the CPU time of one side is made of, in ms a trial: medians of the rounds."""
    measured = [sides[side] for sides in rounds]

    def median(seconds: Row) -> str:
        return f"{statistics.median(1000 * seconds(one) / one['trials'] for one in measured):.1f}"

    names = (*PARTS[side].on_the_loop, *PARTS[side].in_a_thread)
    parts = [f"{name} {median(lambda one, name=name: one['parts'].get(name, 0.0))}" for name in names]
    rest = median(lambda one: one["total_s"] - sum(one["parts"].values()))
    return f"{side}: {', '.join([*parts, f'loop and the rest {rest}'])}"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--trials", type=int, default=100)
    parser.add_argument("--rounds", type=int, default=3, help="runs of both")
    parser.add_argument("--measure", choices=(OURS, STOCK), help=argparse.SUPPRESS)
    add_size(parser)
    args = parser.parse_args()
    size = Size(args.trials, args.epochs, args.at_a_time)
    if args.measure:
        measured = measure(size) if args.measure == OURS else measure_stock(size)
        print(json.dumps(measured | {"disk": on_disk(Path.cwd())}))
        return
    words = ("--trials", size.trials, *size.words())
    rounds = []
    for number in range(args.rounds):
        order = (OURS, STOCK) if number % 2 == 0 else (STOCK, OURS)
        sides = {side: in_a_process(MODULE, "--measure", side, *words) for side in order}
        print(
            ", then ".join(f"{side}: {one['results']} epochs, {one['elapsed_s']:.0f} s" for side, one in sides.items()), flush=True
        )
        rounds.append(sides)
    print(machine())
    print(f"{size.trials} trials of up to {size.epochs} epochs, {size.at_a_time} at a time; n = {args.rounds}: medians, and ratios")
    print("from the least to the most")
    print()
    print(side_by_side(rounds))
    print()
    print("CPU time of the driver by part, ms a trial")
    for side in PARTS:
        print(by_part(side, rounds))


if __name__ == "__main__":
    main()
