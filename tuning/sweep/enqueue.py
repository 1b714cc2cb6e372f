"""Enqueue: a point that a person adds to a launch, which the search then proposes next."""

from collections.abc import Mapping
from typing import Any

from cpsc.errors import ConfigError
from tuning.launch import Journal, replay_events
from tuning.launch.enqueued import EnqueuedPoints
from tuning.launch.launch import check_resumable, open_launch, resume_command
from tuning.search.budget import budget_of
from tuning.study.start_points import parse_point


def enqueue_point(storage: str, name: str, point: Mapping[str, Any]) -> str:
    """Add `point`, by dotted path, to the launch `name` under `storage` -> what becomes of it, in words.

    What it leaves out takes the value that the study's config has. ConfigError where it is no point of the launch's space, or
    where the launch proposes nothing more.
    """
    study = open_launch(storage, name, [])
    if study.search.sampler == "grid":
        raise ConfigError(f"launch {name!r}: is a grid, which runs the points that its study lists and no other")
    full = parse_point(point, study.space, study.base, where="enqueue")
    history = replay_events(Journal(study.local / name).events(), metric=study.metric)
    check_resumable(history, study.space)
    if budget_of(study, history).is_used_up_by(len(history.searched)):
        raise ConfigError(
            f"launch {name!r}: has proposed all {len(history.searched)} trials of its budget; extend it: "
            f"{resume_command(study, name)} --num-trials {len(history.searched) + 1}"
        )
    points = EnqueuedPoints(study.local / name)
    points.add(full)
    values = ", ".join(f"{path} {value}" for path, value in full.items())
    waiting = len(points.after(history.num_enqueued))
    place = "next" if waiting == 1 else f"after {waiting - 1} others that wait"
    return f"{name}: {values} is proposed {place}, by the sweep that runs it or by: {resume_command(study, name)}"
