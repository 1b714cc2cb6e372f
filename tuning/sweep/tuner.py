"""Sets up Ray Tune for a study: what runs, who decides, where files go, and what Ray must not do by itself."""

import contextlib
import functools
from collections.abc import Sequence
from typing import Any

from ray import tune
from ray.tune.progress_reporter import ProgressReporter
from ray.tune.schedulers import FIFOScheduler

from cpsc.errors import ConfigError
from tuning.search.asha import ResumableAsha
from tuning.search.optuna_search import StudySearch
from tuning.search.population import PopulationRules
from tuning.storage import Storage
from tuning.study import Study
from tuning.sweep.old_segments import OldSegments, folder_name
from tuning.trial.context import TrialContext
from tuning.trial.placement import resources_of
from tuning.trial.trainable import DistillTrainable

CHECKPOINTS_KEPT = 2
"""The last checkpoint, and the one before, in case the machine dies while the last one is written."""
MAX_FAILURES = 3
"""How often a trial whose machine breaks continues from the same checkpoint; a diverged trial never does."""


def build_tuner(
    study: Study,
    context: TrialContext,
    storage: Storage,
    *,
    folder: str,
    search: StudySearch,
    scheduler: ResumableAsha | FIFOScheduler,
    callbacks: Sequence[tune.Callback],
    max_concurrent: int | None,
) -> tune.Tuner:
    """The Tune experiment of one attempt, with its files in `folder` of `storage`."""
    launch, _, attempt = folder.rpartition("/")
    trainable = tune.with_resources(
        tune.with_parameters(DistillTrainable, context=context),
        functools.partial(resources_of, study),
    )
    return tune.Tuner(
        trainable,
        tune_config=tune.TuneConfig(
            search_alg=search,
            scheduler=scheduler,
            num_samples=_num_tune_trials(study),
            max_concurrent_trials=max_concurrent,
            reuse_actors=True,
            trial_dirname_creator=folder_name,
        ),
        run_config=tune.RunConfig(
            name=attempt,
            storage_path=storage.path(launch),
            storage_filesystem=None if storage.is_local else storage.filesystem,
            callbacks=[*callbacks, OldSegments(storage, folder)],
            checkpoint_config=tune.CheckpointConfig(
                num_to_keep=CHECKPOINTS_KEPT, checkpoint_frequency=study.checkpoint.every_epochs
            ),
            failure_config=tune.FailureConfig(max_failures=MAX_FAILURES),
            progress_reporter=_Silent(),
            verbose=0,
        ),
    )


def remove_ray_state(storage: Storage, launch: str) -> None:
    """Delete the files that Ray writes to restore an attempt: nothing reads them, and they hold the storage's credentials."""
    with contextlib.suppress(ConfigError):  # the storage itself may have failed
        for attempt in storage.names(launch):
            if attempt.startswith("attempt-"):
                for name in storage.names(f"{launch}/{attempt}"):
                    if name.endswith((".pkl", ".json")):
                        storage.delete(f"{launch}/{attempt}/{name}")


def _num_tune_trials(study: Study) -> int:
    """Most Tune trials: in a population, a trial is one Tune trial per segment between comparisons."""
    finalists, rules = study.search.finalists, PopulationRules.of(study)
    return study.search.num_trials * (rules.num_segments if rules else 1) + (finalists.num_runs if finalists else 0)


class _Silent(ProgressReporter):
    """A reporter that prints nothing: without one, Ray prints its own tables."""

    def should_report(self, trials: list[Any], done: bool = False) -> bool:
        return False

    def report(self, trials: list[Any], done: bool, *sys_info: Any) -> None:
        return None
