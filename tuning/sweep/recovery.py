"""Records the ends of trials and launches whose driver died before it could record them."""

import logging
from pathlib import Path
from typing import Any

from ray.tune.schedulers import FIFOScheduler

from cpsc.errors import CpscError
from tuning.launch import DriverLock, Journal, LaunchHistory, TrialHistory, replay_events
from tuning.launch.clock import DRIVER_DIED
from tuning.launch.events import LaunchEnd, TrialEnd
from tuning.launch.folder import clear_forgotten, launches_in
from tuning.launch.launch import open_launch
from tuning.outcome import Outcome, length_of
from tuning.redaction import redact
from tuning.search.asha import ResumableAsha
from tuning.study import Study
from tuning.study.user_code import looking_back
from tuning.sweep.launch_record import open_writer
from tuning.tracking import delivering

logger = logging.getLogger(__name__)


def close_finished_trials(journal: Journal, study: Study, scheduler: ResumableAsha | FIFOScheduler) -> LaunchHistory:
    """The history, with an end recorded for every trial that had finished when its driver died; fills the scheduler's rungs."""
    history = replay_events(journal.events(), metric=study.metric)
    stopped = scheduler.restore_rungs(history) if isinstance(scheduler, ResumableAsha) else set()
    for trial in history.trials.values():
        if trial.is_over:
            continue
        if trial.last_epoch >= length_of(trial.point, study.config.epochs):
            _append_end(journal, trial, Outcome.COMPLETED, "", history.last_sign)
        elif trial.number in stopped:
            _append_end(journal, trial, Outcome.PRUNED, "", history.last_sign)
    return replay_events(journal.events(), metric=study.metric)


def close_dead_launches(local: Path) -> None:
    """Record the end of launches whose driver died silently, so that nothing is shown as running forever."""
    clear_forgotten(local)
    for folder in launches_in(local):
        lock = DriverLock(folder, closing=True)
        try:
            if lock.try_acquire():  # otherwise its driver is alive
                with looking_back():
                    _close_if_dead(open_launch(str(local), folder.name, []), folder.name)
        except CpscError as error:  # written by another version, or read-only: no reason to refuse a new sweep
            logger.warning("%s: its records are left as they are (%s)", folder, redact(str(error)))
        finally:
            lock.release()


def _close_if_dead(study: Study, name: str) -> None:
    journal = Journal(study.local / name)
    for remark in journal.repair():
        logger.warning("%s", remark)
    history = replay_events(journal.events(), metric=study.metric)
    if history.is_over or not history.launch_id:
        return
    for trial in history.trials.values():
        if trial.outcome is None:
            _append_end(journal, trial, Outcome.INTERRUPTED, DRIVER_DIED, history.last_sign)
    journal.append(LaunchEnd(time=history.last_sign, status="KILLED", metrics={}))
    with delivering(open_writer(study, name, history.launch_id), deadline_s=10):
        pass  # undelivered events stay in the journal


def _append_end(journal: Journal, trial: TrialHistory, outcome: Outcome, reason: str, time: float) -> None:
    """`time`: that of the driver's last event, since the trial's own end is not known."""
    checkpoint = trial.checkpoints[-1] if trial.checkpoints else None
    about: dict[str, Any] = {"outcome": outcome, "reason": reason, "epoch": trial.last_epoch, "checkpoint": checkpoint}
    journal.append(TrialEnd(time=time, number=trial.number, **about))
