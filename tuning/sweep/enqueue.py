"""Enqueue: adds a user's point to a launch, which the search then proposes next."""

from collections.abc import Mapping
from typing import Any

from cpsc.errors import ConfigError
from tuning.launch import Journal, LaunchHistory, replay_events
from tuning.launch.enqueued import EnqueuedPoints
from tuning.launch.launch import check_resumable, open_launch, resume_command
from tuning.search.budget import budget_of
from tuning.study import Study
from tuning.study.start_points import parse_point


def enqueue_point(storage: str, name: str, point: Mapping[str, Any]) -> str:
    """Add `point`, by dotted path, to the launch `name` in `storage` -> a message on when it will run.

    Parameters that it leaves out get the value from the study's config. ConfigError if it is not a point of the launch's space, or
    if the launch proposes no more points.
    """
    study = open_launch(storage, name, [])
    if study.search.sampler == "grid":
        raise ConfigError(f"launch {name!r}: is a grid, which runs only the points that its study lists")
    full = parse_point(point, study.space, study.base, where="enqueue")
    history = replay_events(Journal(study.local / name).events(), metric=study.metric)
    check_resumable(history, study.space)
    _check_budget(study, name, history)
    points = EnqueuedPoints(study.local / name)
    points.add(full)
    values = ", ".join(f"{path} {value}" for path, value in full.items())
    waiting = len(points.after(history.num_enqueued))
    place = "next" if waiting == 1 else f"after {waiting - 1} waiting ones"
    return f"{name}: {values} will be proposed {place}, by the running sweep or by: {resume_command(study, name)}"


def _check_budget(study: Study, name: str, history: LaunchHistory) -> None:
    """ConfigError if the launch proposes no more points, with the command that changes that."""
    budget, num_proposed = budget_of(study, history), len(history.searched)
    if not budget.is_used_up_by(num_proposed):
        return
    if num_proposed < study.search.num_trials and history.finished_budget is not None:
        why, change = "was asked to finish; continue anyway", f"--num-trials {study.search.num_trials + 1}"
    elif num_proposed >= budget.num_trials:
        why, change = f"has proposed all {num_proposed} trials of its budget; extend it", f"--num-trials {num_proposed + 1}"
    elif budget.has_stalled:
        why, change = "has ended because trials no longer improved; continue anyway", "--set search.stop.trials_without_gain=null"
    else:
        why, change = "has used up its epochs or time; raise search.epoch_budget or search.time_budget_s", "--set ..."
    raise ConfigError(f"launch {name!r}: {why}: {resume_command(study, name)} {change}")
