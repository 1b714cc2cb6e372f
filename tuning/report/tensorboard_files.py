"""A recorded launch as TensorBoard event files, for a sweep that did not write them itself, or on another machine."""

import contextlib
from collections.abc import Iterator
from pathlib import Path

from tuning.launch.events import Epoch, Event, LaunchStart, TrialEnd, TrialStart
from tuning.report.files import writing_to
from tuning.results import Launch, TrialRecord
from tuning.study import Study
from tuning.tracking.event_files import FOLDER, EventFiles


def write_event_files(launch: Launch, study: Study, folder: Path) -> Path:
    """Write the records that `folder` does not hold yet -> the event files' own folder in it. ConfigError if it cannot be written.

    `study`: as the launch ran it.
    """
    target = folder / FOLDER
    with writing_to(target), contextlib.closing(EventFiles(target, study)) as files:
        for event in _events(launch):
            files.tell(event)
    return target


def _events(launch: Launch) -> Iterator[Event]:
    """The launch as journal events, as far as event files show them."""
    started = min((trial.course.started or 0.0 for trial in launch.trials), default=0.0)
    yield LaunchStart(time=started, launch_id=launch.launch_id, params={}, study="")
    for trial in launch.trials:
        yield from _events_of(trial)


def _events_of(trial: TrialRecord) -> Iterator[Event]:
    number, course = trial.number, trial.course
    started = course.started or 0.0
    yield TrialStart(time=started, number=number, point=trial.point, params={}, ray_trial_id="", finalist_of=trial.finalist_of)
    for epoch, metrics in trial.by_epoch():
        yield Epoch(time=course.reported.get(epoch, started), number=number, epoch=epoch, metrics=metrics, note="")
    if trial.outcome is not None:
        ended = course.ended or started
        last = trial.num_epochs
        yield TrialEnd(time=ended, number=number, outcome=trial.outcome, reason=trial.reason, epoch=last, checkpoint=None)
