"""A study from its file to its champion: Ray Tune runs the trials, Optuna proposes them, ASHA prunes them."""

import logging
import os
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

# Read by Ray when it is imported. Its own output engine ignores reporters and prints boxes; its per-trial JSON, CSV
# and TensorBoard files repeat what MLflow holds.
os.environ.setdefault("RAY_AIR_NEW_OUTPUT", "0")
os.environ.setdefault("TUNE_DISABLE_AUTO_CALLBACK_LOGGERS", "1")
os.environ.setdefault("RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO", "0")

import psutil
import ray
import yaml
from mlflow import MlflowClient
from ray import tune
from ray.tune.progress_reporter import ProgressReporter

from cpsc.errors import ConfigError
from tuning.assets import Assets, check_writable, prepare, study_device
from tuning.champion import register_champion
from tuning.config import Study
from tuning.progress import Display
from tuning.results import Launch, load_launch
from tuning.search import build_scheduler, build_search
from tuning.spool import Spool
from tuning.sweep_progress import SweepProgress
from tuning.tracking import MlflowWriter, TrackingCallback, delivering, store_uri
from tuning.trainable import DistillTrainable, TrialContext, to_plain

TRIALS_KEEP_CHECKPOINTS = 2
MAX_FAILURES = 3
"""A broken machine is retried from the last checkpoint this often; a diverged trial never is."""


@dataclass(frozen=True)
class SweepSummary:
    """What a sweep leaves behind."""

    launch: Launch
    model_uri: str | None
    elapsed_s: float
    tracking_share: float
    """Share of the sweep's wall time that tracking calls took, in callbacks and in the delivering thread."""


def run_sweep(study: Study, display: Display, *, address: str | None = None, force: bool = False) -> SweepSummary:
    """Run `study` to its end. ConfigError before anything starts where it cannot run here."""
    started = time.monotonic()
    check_writable(study.storage)
    study_device(study)
    num_concurrent = concurrency(study) if address is None else study.search.max_concurrent
    assets = prepare(study, display, force=force)
    name = next_launch_name(study)
    folder = study.storage / name
    folder.mkdir(parents=True)
    spool = Spool(folder / "events.jsonl")
    spool.append(_launch_start(study, assets))
    tracking = TrackingCallback(spool, study.base, epochs=study.config.epochs, shared=_shared_params(assets))
    with delivering(MlflowWriter(spool, study, name)) as writer:
        status = "FAILED"
        try:
            with ray_running(study, address):
                interrupted = _fit(study, assets, name, tracking, display, num_concurrent)
            status = "KILLED" if interrupted else "FINISHED"
        finally:
            busy_s, elapsed_s = tracking.busy_s + writer.busy_s, time.monotonic() - started
            share = busy_s / elapsed_s
            spool.append(
                {
                    "kind": "launch_end",
                    "time": time.time(),
                    "status": status,
                    "metrics": {"elapsed_s": elapsed_s, "tracking_share": share},
                }
            )
    if writer.undelivered:
        raise ConfigError(f"tracking: {store_uri(study)} was away, {writer.undelivered} records wait in {spool.path}")
    client = MlflowClient(tracking_uri=store_uri(study))
    launch = load_launch(client, study.name, name)
    uri = _register(client, study, launch, assets)
    return SweepSummary(launch, uri, time.monotonic() - started, share)


def concurrency(study: Study) -> int:
    """Trials at a time on this machine; ConfigError where not even one fits."""
    resources = study.resources
    cpus = psutil.cpu_count() or 1
    if resources.cpus > cpus:
        raise ConfigError(f"resources.cpus: {resources.cpus} asked for per trial, this machine has {cpus}")
    fitting = cpus // resources.cpus
    if resources.gpus:
        import torch

        fitting = min(fitting, int(torch.cuda.device_count() / resources.gpus))
    return min(fitting, study.search.max_concurrent or fitting, study.search.num_trials)


def next_launch_name(study: Study) -> str:
    """The study's name, with a number behind it where earlier launches have taken it."""
    name, number = study.name, 1
    while (study.storage / name).exists():
        number += 1
        name = f"{study.name}-{number}"
    return name


def trial_context(study: Study, assets: Assets) -> TrialContext:
    """What the trials of `study` share."""
    return TrialContext(
        base=study.base,
        teacher=assets.teacher,
        probe=assets.probe,
        test=assets.dataset.test if assets.dataset else None,
        objective=study.objective,
        threads=study.resources.cpus,
        device="cuda" if study.resources.gpus else "cpu",
    )


@contextmanager
def ray_running(study: Study, address: str | None) -> Iterator[None]:
    """Ray for the length of the block: a cluster at `address`, or this machine alone, on loopback, without a dashboard."""
    options: dict[str, Any] = {"log_to_driver": False, "logging_level": logging.ERROR}
    if address is not None:
        ray.init(address=address, **options)
    else:
        ray.init(address="local", include_dashboard=False, num_cpus=psutil.cpu_count(), **options)
    try:
        yield
    finally:
        ray.shutdown()


class _Silent(ProgressReporter):
    """Ray prints tables of its own unless given a reporter that does not."""

    def should_report(self, trials: list[Any], done: bool = False) -> bool:
        return False

    def report(self, trials: list[Any], done: bool, *sys_info: Any) -> None:
        return None


def _fit(study: Study, assets: Assets, name: str, tracking: TrackingCallback, display: Display, num_concurrent: int | None) -> bool:
    """Run the trials; whether they were interrupted. Returns when all have ended."""
    logging.getLogger("ray.tune").setLevel(logging.ERROR)
    trainable = tune.with_resources(
        tune.with_parameters(DistillTrainable, context=trial_context(study, assets)),
        {"cpu": study.resources.cpus, "gpu": study.resources.gpus},
    )
    progress = SweepProgress(
        num_trials=study.search.num_trials, epochs=study.config.epochs, metric=study.metric, quiet=display.quiet
    )
    tuner = tune.Tuner(
        trainable,
        tune_config=tune.TuneConfig(
            search_alg=build_search(study),
            scheduler=build_scheduler(study),
            num_samples=study.search.num_trials,
            max_concurrent_trials=num_concurrent,
            reuse_actors=True,
            trial_dirname_creator=trial_folder,
        ),
        run_config=tune.RunConfig(
            name=name,
            storage_path=str(study.storage),
            callbacks=[tracking, progress],
            checkpoint_config=tune.CheckpointConfig(
                num_to_keep=TRIALS_KEEP_CHECKPOINTS, checkpoint_frequency=study.checkpoint.every_epochs
            ),
            failure_config=tune.FailureConfig(max_failures=MAX_FAILURES),
            progress_reporter=_Silent(),
            verbose=0,
        ),
    )
    try:
        tuner.fit()
    finally:
        progress.close()
    return progress.interrupted


def trial_folder(trial: Any) -> str:
    """A trial's folder under the launch's: its id alone, parameters stand in MLflow."""
    return f"trial-{trial.trial_id}"


def _launch_start(study: Study, assets: Assets) -> dict[str, Any]:
    params = {
        "objective": study.objective,
        "epochs": study.config.epochs,
        "num_trials": study.search.num_trials,
        "sampler": study.search.sampler,
        "scheduler": study.prune.scheduler,
        "search_seed": study.search.seed,
        **{f"space.{path}": str(domain) for path, domain in study.space.items()},
        **_shared_params(assets),
    }
    return {
        "kind": "launch_start",
        "time": time.time(),
        "params": {key: str(value) for key, value in params.items()},
        "study": yaml.safe_dump(to_plain(study.source), sort_keys=False),
    }


def _shared_params(assets: Assets) -> Mapping[str, Any]:
    teacher = assets.teacher
    return {
        "teacher.arch": teacher.arch,
        "teacher.digest": teacher.digest[:12],
        "teacher.test_accuracy": teacher.test_accuracy,
        "teacher.normalisation": asdict(teacher.normalisation),
        "probe.num_images": len(assets.probe.labels),
    }


def _register(client: MlflowClient, study: Study, launch: Launch, assets: Assets) -> str | None:
    if launch.chosen is None:
        return None
    run = client.get_run(launch.chosen.run_id)
    folder = Path(client.download_artifacts(run.info.run_id, "checkpoint"))
    return register_champion(
        client,
        name=study.name,
        run_id=run.info.run_id,
        checkpoint_folder=folder,
        teacher=assets.teacher,
        probe=assets.probe,
    )
