"""A recorded launch as TensorBoard's event files, where the sweep itself has not written them, or on another machine."""

import contextlib
from collections.abc import Iterator
from pathlib import Path

from tuning.launch.events import Epoch, Event, LaunchStart, TrialEnd, TrialStart
from tuning.report.files import writing_to
from tuning.results import Launch, TrialRecord
from tuning.study import Study
from tuning.tracking.event_files import FOLDER, EventFiles


def write_event_files(launch: Launch, study: Study, folder: Path) -> Path:
    """Write what `folder` does not hold of them yet -> their own folder in it. ConfigError where it cannot be written.

    `study`: as the launch has run it.
    """
    target = folder / FOLDER
    with writing_to(target), contextlib.closing(EventFiles(target, study)) as files:
        for event in _events(launch):
            files.tell(event)
    return target


def _events(launch: Launch) -> Iterator[Event]:
    """What a journal says of the launch, as far as event files show it."""
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
