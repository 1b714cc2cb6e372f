"""A launch on disk: one folder with the study file, the journal and an attempt's folder for each time it was driven."""

import logging
import time
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import yaml
from ray.tune.schedulers import FIFOScheduler

from cpsc.errors import ConfigError
from tuning.assets import Assets
from tuning.config import NAME, Study, load_study
from tuning.history import LaunchHistory, TrialHistory, fold
from tuning.journal import DriverLock, Event, Journal
from tuning.outcome import Outcome
from tuning.recorder import trial_end
from tuning.redaction import redact
from tuning.search import ResumableAsha
from tuning.tracking import MlflowWriter, delivering
from tuning.trainable import to_plain

logger = logging.getLogger(__name__)

STUDY_FILE = "study.yaml"


def new_launch(study: Study) -> str:
    """Make the launch's folder, named after the study with a number behind it where earlier launches took the name."""
    name, number = study.name, 1
    while (study.storage / name).exists():
        number += 1
        name = f"{study.name}-{number}"
    folder = study.storage / name
    folder.mkdir(parents=True)
    file = folder / STUDY_FILE
    file.touch(mode=0o600)  # a URI in it may carry a password, which a resume needs
    file.write_text(yaml.safe_dump(to_plain(study.source), sort_keys=False), encoding="utf-8")
    return name


def open_launch(storage: Path, name: str, overrides: list[str]) -> Study:
    """The study of an existing launch, with `overrides`; ConfigError where there is none, with the names that there are."""
    storage = storage.expanduser().absolute()
    file = storage / name / STUDY_FILE
    if not NAME.fullmatch(name) or not file.is_file():
        known = sorted(found.parent.name for found in storage.glob(f"*/{STUDY_FILE}"))
        raise ConfigError(f"launch {name!r}: not under {storage}, there is {', '.join(known) or 'none'}")
    return replace(load_study(file, overrides), storage=storage)


def launch_start(study: Study, assets: Assets, launch_id: str) -> Event:
    """The journal's first event."""
    params = {
        "objective": study.objective,
        "epochs": study.config.epochs,
        "num_trials": study.search.num_trials,
        "sampler": study.search.sampler,
        "scheduler": study.prune.scheduler,
        "search_seed": study.search.seed,
        **{f"space.{path}": str(domain) for path, domain in study.space.items()},
        **shared_params(assets),
    }
    return {
        "kind": "launch_start",
        "time": time.time(),
        "launch_id": launch_id,
        "params": {key: str(value) for key, value in params.items()},
        "study": redact(yaml.safe_dump(to_plain(study.source), sort_keys=False)),
    }


def shared_params(assets: Assets) -> dict[str, Any]:
    """What is true of every trial of the launch."""
    teacher = assets.teacher
    return {
        "teacher.arch": teacher.arch,
        "teacher.digest": teacher.digest[:12],
        "teacher.test_accuracy": teacher.test_accuracy,
        "teacher.normalisation": asdict(teacher.normalisation),
        "probe.num_images": len(assets.probe.labels),
    }


def settle(journal: Journal, study: Study, scheduler: ResumableAsha | FIFOScheduler) -> LaunchHistory:
    """The history, with an end for every trial that had reached its own when its driver died; fills the scheduler's rungs."""
    history = fold(journal.events(), metric=study.metric)
    stopped = scheduler.replay(history) if isinstance(scheduler, ResumableAsha) else set()
    for trial in history.trials.values():
        if trial.is_over:
            continue
        if trial.last_epoch >= study.config.epochs:
            _append_end(journal, trial, Outcome.COMPLETED, "")
        elif trial.number in stopped:
            _append_end(journal, trial, Outcome.PRUNED, "")
    return fold(journal.events(), metric=study.metric)


def close_dead_launches(storage: Path) -> None:
    """Record the end of launches whose driver died without a word, so that nothing shows as running forever."""
    for file in sorted(storage.glob(f"*/{STUDY_FILE}")):
        lock = DriverLock(file.parent)
        if not lock.try_acquire():
            continue  # it is alive
        try:
            _close_if_dead(replace(load_study(file), storage=storage), file.parent.name)
        except ConfigError as error:  # written by another version, say: no reason to refuse a new sweep
            logger.warning("%s: its records are left as they are (%s)", file.parent, error)
        finally:
            lock.release()


def _close_if_dead(study: Study, name: str) -> None:
    journal = Journal(study.storage / name)
    journal.drop_torn_line()
    history = fold(journal.events(), metric=study.metric)
    if history.is_over or not history.launch_id:
        return
    for trial in history.trials.values():
        if trial.outcome is None:
            _append_end(journal, trial, Outcome.INTERRUPTED, "the driver died")
    journal.append({"kind": "launch_end", "time": time.time(), "status": "KILLED", "metrics": {}})
    with delivering(MlflowWriter(journal, study, name, history.launch_id), deadline_s=10):
        pass  # what cannot be delivered now stays in the journal


def _append_end(journal: Journal, trial: TrialHistory, outcome: Outcome, reason: str) -> None:
    checkpoint = trial.checkpoints[-1] if trial.checkpoints else None
    end = trial_end(outcome, reason, trial.last_epoch, checkpoint)
    journal.append({"kind": "trial_end", "time": time.time(), "number": trial.number, **end})
