"""A study from its file to its champion: Ray Tune runs the trials, Optuna proposes them, ASHA prunes them."""

import logging
import os
import time
import uuid
from pathlib import Path
from typing import Any

# Read by Ray when it is imported. Its own output engine ignores reporters and prints boxes; its per-trial JSON, CSV
# and TensorBoard files repeat what MLflow holds; its snapshots are not what a launch is rebuilt from.
os.environ.setdefault("RAY_AIR_NEW_OUTPUT", "0")
os.environ.setdefault("TUNE_DISABLE_AUTO_CALLBACK_LOGGERS", "1")
os.environ.setdefault("TUNE_GLOBAL_CHECKPOINT_S", "600")
os.environ.setdefault("RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO", "0")

from mlflow import MlflowClient
from ray import tune
from ray.tune.progress_reporter import ProgressReporter
from ray.tune.schedulers import FIFOScheduler

from cpsc.errors import CpscError
from tuning.assets import Assets, prepare
from tuning.champion import register_champion
from tuning.checkpoint_store import CheckpointStore
from tuning.config import Study, check_searchable
from tuning.history import LaunchHistory, fold
from tuning.journal import DriverLock, Journal
from tuning.launch import close_dead_launches, launch_start, new_launch, open_launch, settle, shared_params
from tuning.progress import Display
from tuning.ray_session import check_resources, ray_running, terminating_like_ctrl_c
from tuning.recorder import Recorder
from tuning.results import Launch, SweepSummary, launch_from_journal
from tuning.search import ResumableAsha, build_scheduler, build_search, has_work
from tuning.sweep_progress import SweepProgress
from tuning.tracking import MlflowWriter, checkpoint_store, delivering, store_uri
from tuning.trainable import DistillTrainable, TrialContext

CHECKPOINTS_KEPT = 2
"""The last, and the one before for when the last was being written as the machine died."""
MAX_FAILURES = 3
"""A broken machine is retried from the last checkpoint this often; a diverged trial never is."""


class InterruptedSweepError(CpscError):
    """The sweep was stopped from outside and can be resumed."""


def run_sweep(study: Study, display: Display, *, address: str | None = None, force: bool = False) -> SweepSummary:
    """Run `study` to its end as a new launch. ConfigError before anything starts where it cannot run here."""
    check_searchable(study)
    check_resources(study, address)
    checkpoint_store(study, study.name).check()
    attempt = _Attempt(study, display, address)
    assets = prepare(study, display, force=force, on_cluster=address is not None)
    close_dead_launches(study.storage)
    name = new_launch(study)
    with DriverLock(study.storage / name):
        Journal(study.storage / name).append(launch_start(study, assets, uuid.uuid4().hex))
        return attempt.drive(name, assets)


def resume_sweep(storage: Path, name: str, display: Display, *, overrides: list[str], address: str | None = None) -> SweepSummary:
    """Go on with the launch `name` under `storage`, whatever ended it; `overrides` may extend its budgets."""
    study = open_launch(storage, name, overrides)
    check_resources(study, address)
    checkpoint_store(study, study.name).check()
    attempt = _Attempt(study, display, address)
    with DriverLock(study.storage / name):
        Journal(study.storage / name).drop_torn_line()
        assets = prepare(study, display, force=True, on_cluster=address is not None)  # the launch has accepted its teacher
        return attempt.drive(name, assets)


def trial_context(study: Study, assets: Assets, store: CheckpointStore) -> TrialContext:
    """What the trials of `study` share."""
    return TrialContext(
        base=study.base,
        teacher=assets.teacher,
        probe=assets.probe,
        test=assets.dataset.test if assets.dataset else None,
        objective=study.objective,
        threads=study.resources.cpus,
        device="cuda" if study.resources.gpus else "cpu",
        store=store,
    )


class _Attempt:
    """One drive of a launch: from what its journal says to the end of the study, or to an interruption."""

    def __init__(self, study: Study, display: Display, address: str | None) -> None:
        self._study = study
        self._display = display
        self._address = address
        self._started = time.monotonic()

    def drive(self, name: str, assets: Assets) -> SweepSummary:
        """Run, record, and register the result. InterruptedSweepError where it was stopped from outside."""
        study, journal = self._study, Journal(self._study.storage / name)
        scheduler = build_scheduler(study)
        history = settle(journal, study, scheduler)
        journal.append({"kind": "attempt_start", "time": time.time(), "attempt": history.num_attempts})
        recorder = Recorder(journal, history, study.base, epochs=study.config.epochs, shared=shared_params(assets))
        status, share = "FAILED", 0.0
        with delivering(MlflowWriter(journal, study, name, history.launch_id)) as writer:
            try:
                interrupted = False
                if has_work(study, history):
                    with ray_running(self._address), terminating_like_ctrl_c():
                        interrupted = self._fit(name, assets, history, scheduler, recorder)
                status = "KILLED" if interrupted else "FINISHED"
            finally:
                elapsed_s = self._elapsed_s()
                share = (recorder.busy_s + writer.busy_s) / elapsed_s
                metrics = {"elapsed_s": elapsed_s, "tracking_share": share}
                journal.append({"kind": "launch_end", "time": time.time(), "status": status, "metrics": metrics})
        if status == "KILLED":
            resume = f"cpsc-tune resume {name} --storage {study.storage}"
            raise InterruptedSweepError(f"the sweep was interrupted; go on with: {resume}")
        launch = launch_from_journal(journal.events(), name)
        return SweepSummary(
            study=study,
            launch=launch,
            model_uri=None if writer.undelivered else self._register(launch, journal, writer, assets),
            num_undelivered=writer.undelivered,
            elapsed_s=self._elapsed_s(),
            tracking_share=share,
        )

    def _fit(
        self,
        name: str,
        assets: Assets,
        history: LaunchHistory,
        scheduler: ResumableAsha | FIFOScheduler,
        recorder: Recorder,
    ) -> bool:
        """Run the trials until none is left; whether they were interrupted."""
        study, store = self._study, checkpoint_store(self._study, name)
        logging.getLogger("ray.tune").setLevel(logging.ERROR)
        trainable = tune.with_resources(
            tune.with_parameters(DistillTrainable, context=trial_context(study, assets, store)),
            {"cpu": study.resources.cpus, "gpu": study.resources.gpus},
        )
        progress = SweepProgress(
            history,
            num_trials=study.search.num_trials,
            epochs=study.config.epochs,
            metric=study.metric,
            quiet=self._display.quiet,
        )
        tuner = tune.Tuner(
            trainable,
            tune_config=tune.TuneConfig(
                search_alg=build_search(study, history, Journal(study.storage / name)),
                scheduler=scheduler,
                num_samples=study.search.num_trials,
                max_concurrent_trials=check_resources(study, self._address),
                reuse_actors=True,
                trial_dirname_creator=_trial_folder,
            ),
            run_config=tune.RunConfig(
                name=f"attempt-{history.num_attempts:03d}",
                storage_path=store.root,
                storage_filesystem=store.filesystem if store.uri else None,
                callbacks=[recorder, progress],
                checkpoint_config=tune.CheckpointConfig(
                    num_to_keep=CHECKPOINTS_KEPT, checkpoint_frequency=study.checkpoint.every_epochs
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

    def _register(self, launch: Launch, journal: Journal, writer: MlflowWriter, assets: Assets) -> str | None:
        if launch.chosen is None:
            return None
        number = launch.chosen.number
        path = fold(journal.events(), metric=self._study.metric).trials[number].checkpoints[-1]
        client = MlflowClient(tracking_uri=store_uri(self._study))
        with checkpoint_store(self._study, journal.path.parent.name).local(path) as folder:
            return register_champion(client, self._study.name, writer.run_id(number), folder, assets)

    def _elapsed_s(self) -> float:
        return time.monotonic() - self._started


class _Silent(ProgressReporter):
    """Ray prints tables of its own unless given a reporter that does not."""

    def should_report(self, trials: list[Any], done: bool = False) -> bool:
        return False

    def report(self, trials: list[Any], done: bool, *sys_info: Any) -> None:
        return None


def _trial_folder(trial: Any) -> str:
    """A trial's folder under the attempt's: its number alone, parameters stand in MLflow."""
    return f"trial-{trial.config['number']:03d}"
