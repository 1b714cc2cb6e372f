"""What the driver of a sweep costs, compared with plain Ray: Tuner, OptunaSearch, ASHA and MLflowLoggerCallback.

``python -m tests.benchmarks.stock_ray`` runs both on trials that train nothing, in turn and in alternating order, each in its own
process and folder. Both have the same trainable with its metrics and checkpoint files, the same numbers of trials, epochs and
trials at a time, two kept checkpoints per trial, ASHA's rungs, TPE with its seed and number of random points, the first point,
MLflow on SQLite, and reused workers. In stock Ray, the dashboard and the tables on the console are switched off; everything else
has its default, for example log files of each trial and snapshots of the experiment.

Measured from the first trial's start until everything is recorded and Ray is down: CPU time of the driver's process, and wall
time, in which the workers share the processors with it. Disk usage at the end is measured without the study's inputs and without
Ray's files in the system's temporary folder.

The two do different things:

- Ours writes a journal, from which a killed sweep is rebuilt, with ASHA's rungs and Optuna's study. Stock Ray writes snapshots,
  now and then and whenever a trial has made as many checkpoints as are kept; a sweep that `Tuner.restore` continues from them
  has lost its rungs, and its unfinished trials get second MLflow runs.
- Ours sends records to MLflow outside the sweep's loop, in batches, and a server that cannot be reached stops nothing. The callback
  makes one request per value inside the loop, and an exception there ends the sweep.
- Ours puts each trial's last checkpoint, pictures and full configuration into MLflow, nests trials under their launch and shows
  which were pruned. With `save_artifact` the callback stores Ray's log files, which repeat the metrics, but no checkpoint, and it
  marks a pruned trial FINISHED. Its metrics include Ray's own, and the searched values at each epoch.
- Ours registers the champion, after the measured time; its files count as artifacts on disk. It also mirrors Optuna's study into a
  file for dashboards. Stock Ray has that study in its snapshots, where pruned trials look complete.
- Stock Ray writes TensorBoard, CSV and JSON files of each trial.

Results arrive in varying order: with the same points the two may prune different trials, and the cost of a trial also depends on
its epochs.
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
"""Files that both sweeps start with."""
KINDS = ("checkpoints", "MLflow's database", "MLflow's artifacts", "the rest")

Row = Callable[[dict[str, Any]], float]


def stock_tuner(study: Study, size: Size, store: str) -> tune.Tuner:
    """The experiment as in Ray's and Optuna's guides, in the current folder; `store`: MLflow's URI."""
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
    """Run one sweep of stock Ray in this process, in the current folder -> the same figures as the driver's `measure`."""
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
    """Bytes that a sweep left in `folder`, by kind, and the number of its files."""
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
    """Medians over rounds, and the ratio of stock Ray to ours within a round: median, minimum and maximum."""
    rows: dict[str, Row] = {
        "CPU time of the driver, ms per trial": lambda side: 1000 * side["total_s"] / side["trials"],
        "CPU time of the driver, ms per epoch": lambda side: 1000 * side["total_s"] / side["results"],
        "wall time, ms per trial": lambda side: 1000 * side["wall_s"] / side["trials"],
        "wall time, ms per epoch": lambda side: 1000 * side["wall_s"] / side["results"],
        "the whole sweep with Ray's start, s": lambda side: side["elapsed_s"],
        "on disk, kB per trial": lambda side: sum(side["disk"][kind] for kind in KINDS) / 1000 / side["trials"],
        **{f"of it {kind}": _kept(kind) for kind in KINDS},
        "files per trial": lambda side: side["disk"]["files"] / side["trials"],
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
    """The parts of the CPU time of one side, in ms per trial: medians over rounds."""
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
    parser.add_argument("--rounds", type=int, default=3, help="how often both are run")
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
    print("CPU time of the driver by part, ms per trial")
    for side in PARTS:
        print(by_part(side, rounds))


if __name__ == "__main__":
    main()
