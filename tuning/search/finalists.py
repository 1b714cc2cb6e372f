"""Which finalists a launch has, and which of their runs are still to be proposed: read off its history, whoever asks."""

from dataclasses import dataclass
from typing import Any

from tuning.launch import LaunchHistory, TrialHistory
from tuning.outcome import Outcome
from tuning.study import Study, build_config
from tuning.study.finalists import finalist_points


@dataclass(frozen=True)
class FinalistRun:
    """A run that repeats the trial `of` under another seed. `point`: all that it overrides of the study's config."""

    of: int
    point: dict[str, Any]


def runs_to_propose(study: Study, history: LaunchHistory) -> list[FinalistRun]:
    """The finalists' runs that `history`, of a search that has ended, lacks; of the best point first."""
    finalists = study.search.finalists
    if finalists is None:
        return []
    proposed = [trial.point for trial in history.trials.values() if trial.finalist_of is not None]
    runs = [
        FinalistRun(trial.number, point)
        for trial in _best(history, finalists.top)
        for point in finalist_points(trial.point, finalists, build_config(study.base, trial.point).seed)
    ]
    return [run for run in runs if run.point not in proposed]


def _best(history: LaunchHistory, count: int) -> list[TrialHistory]:
    """The `count` best of the search's points, pruned ones among them, of equal ones the earlier; a point twice is one."""
    ended = [trial for trial in history.searched.values() if trial.outcome in (Outcome.COMPLETED, Outcome.PRUNED)]
    found: list[TrialHistory] = []
    for trial in sorted(ended, key=lambda trial: (-trial.values[trial.last_epoch], trial.number)):
        if all(trial.point != other.point for other in found):
            found.append(trial)
    return found[:count]
