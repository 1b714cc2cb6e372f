"""The finalists of a launch, and which of their runs are still to be proposed; derived from its history alone."""

from dataclasses import dataclass
from typing import Any

from tuning.launch import LaunchHistory, TrialHistory
from tuning.outcome import Outcome
from tuning.study import Study, build_config
from tuning.study.finalists import finalist_points


@dataclass(frozen=True)
class FinalistRun:
    """A run that repeats the trial `of` under another seed. `point`: all values that override the study's config."""

    of: int
    point: dict[str, Any]


def runs_to_propose(study: Study, history: LaunchHistory) -> list[FinalistRun]:
    """The finalists' runs that are missing in `history`, after the end of the search; those of the best point first."""
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
    """The `count` best distinct points of the search, including pruned trials; of equally good ones, the earlier."""
    ended = [trial for trial in history.searched.values() if trial.outcome in (Outcome.COMPLETED, Outcome.PRUNED)]
    found: list[TrialHistory] = []
    for trial in sorted(ended, key=lambda trial: (-trial.values[trial.last_epoch], trial.number)):
        if all(trial.point != other.point for other in found):
            found.append(trial)
    return found[:count]
