"""What a launch's journal says, folded into one record a trial: from it a killed study is rebuilt."""

import sys
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from cpsc.errors import ConfigError
from tuning.journal import FILE_NAME, WAY_OUT, Event
from tuning.outcome import Outcome
from tuning.space import Range
from tuning.validation import shown


@dataclass
class TrialHistory:
    """One trial so far. `values`: the search's metric by epoch; `checkpoints`: folders, oldest first."""

    number: int
    point: dict[str, Any]
    values: dict[int, float] = field(default_factory=dict)
    checkpoints: list[str] = field(default_factory=list)
    num_retries: int = 0
    outcome: Outcome | None = None

    @property
    def last_epoch(self) -> int:
        return max(self.values, default=0)

    @property
    def is_over(self) -> bool:
        """Ended for good: interruption is a pause."""
        return self.outcome not in (None, Outcome.INTERRUPTED)


@dataclass
class LaunchHistory:
    """A launch so far. `results`: every (trial number, epoch) with its metric value, in the order of arrival."""

    trials: dict[int, TrialHistory] = field(default_factory=dict)
    results: list[tuple[int, int, float]] = field(default_factory=list)
    launch_id: str = ""
    num_attempts: int = 0
    is_over: bool = False
    elapsed_s: float = 0.0
    """Time under way, over all attempts."""

    @property
    def num_epochs(self) -> int:
        return len(self.results)


def check_resumable(history: LaunchHistory, space: Mapping[str, Range]) -> None:
    """Raise ConfigError unless a launch with this past can go on: it was begun, and its points are points of `space`."""
    if not history.launch_id:
        raise ConfigError(f"{FILE_NAME}: holds no launch_start, so nothing of this launch was begun; run its study anew")
    for trial in history.trials.values():
        where = f"{FILE_NAME}: trial {trial.number}"
        expected = {path for path, domain in space.items() if domain.is_active(trial.point)}
        if trial.point.keys() != expected:
            odd = min(trial.point.keys() ^ expected)
            raise ConfigError(f"{where}: {odd} is searched there or in the study, not in both; leave space as it was at the start")
        for path, value in trial.point.items():
            if not space[path].contains(value):
                raise ConfigError(f"{where}: {path} {shown(value)} lies outside {space[path]}; leave space as it was at the start")


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and abs(value) <= sys.float_info.max


def _is_count(value: Any) -> bool:
    return type(value) is int and 0 <= value < 2**63


RULES: dict[str, Callable[[Any], bool]] = {
    "time": _is_number,
    "number": _is_count,
    "epoch": _is_count,
    "count": _is_count,
    "attempt": _is_count,
    "point": lambda value: isinstance(value, dict),
    "params": lambda value: isinstance(value, dict) and all(isinstance(text, str) for text in value.values()),
    "metrics": lambda value: isinstance(value, dict) and all(map(_is_number, value.values())),
    "outcome": lambda value: value in list(Outcome),
    "checkpoint": lambda value: isinstance(value, str | None),
}
"""What a field must be, wherever it stands; those that are not named here are texts."""

FIELDS: dict[str, tuple[str, ...]] = {
    "launch_start": ("launch_id", "params", "study"),
    "attempt_start": ("attempt",),
    "proposed": ("number", "point"),
    "trial_start": ("number", "point", "params", "ray_trial_id"),
    "epoch": ("number", "epoch", "metrics", "note"),
    "checkpoint": ("number", "path"),
    "retry": ("number", "epoch", "count"),
    "trial_end": ("number", "outcome", "reason", "epoch", "checkpoint"),
    "launch_end": ("status", "metrics"),
}
"""What whoever reads a journal may count on, by kind of event."""


def _fault(event: Event, history: LaunchHistory, metric: str) -> str | None:
    """What is wrong with `event` where it follows upon `history`, in words."""
    kind = event.get("kind")
    if not isinstance(kind, str) or kind not in FIELDS:
        return f"kind {str(kind)[:40]!r} is unknown"
    for name in ("time", *FIELDS[kind]):
        if name not in event or not RULES.get(name, lambda value: isinstance(value, str))(event[name]):
            return f"{kind} has no valid {name}"
    if kind == "launch_start" and not (event["params"].get("epochs", "").isdecimal() and "objective" in event["params"]):
        return "launch_start does not tell objective and epochs"
    if kind == "epoch" and metric not in event["metrics"]:
        return f"epoch has no {metric}, was this launch's objective another?"
    if "number" in FIELDS[kind] and (event["number"] in history.trials) == (kind == "proposed"):
        return f"trial {event['number']} is proposed twice" if kind == "proposed" else f"trial {event['number']} was never proposed"
    return None


def fold(events: Iterable[Event], *, metric: str) -> LaunchHistory:
    """The history that `events`, a journal from its start, tell; `metric` names the value that search and scheduler look at.

    ConfigError, naming the journal's line, where an event is not what a sweep writes.
    """
    history = LaunchHistory()
    previous_time = 0.0
    for line, event in enumerate(events, start=1):
        if (fault := _fault(event, history, metric)) is not None:
            raise ConfigError(f"{FILE_NAME} line {line}: {fault}; {WAY_OUT}")
        kind = event["kind"]
        if kind in ("launch_start", "attempt_start"):
            previous_time = event["time"]  # the pause before it does not count
        history.elapsed_s += event["time"] - previous_time
        previous_time = event["time"]
        if kind == "launch_start":
            history.launch_id = event["launch_id"]
        elif kind == "attempt_start":
            history.num_attempts += 1
            history.is_over = False
        elif kind == "launch_end":
            history.is_over = True
        elif kind == "proposed":
            history.trials[event["number"]] = TrialHistory(event["number"], event["point"])
        elif kind == "trial_start":
            history.trials[event["number"]].outcome = None
        elif kind == "epoch":
            value = event["metrics"][metric]
            history.trials[event["number"]].values[event["epoch"]] = value
            history.results.append((event["number"], event["epoch"], value))
        elif kind == "checkpoint":
            history.trials[event["number"]].checkpoints.append(event["path"])
        elif kind == "retry":
            history.trials[event["number"]].num_retries = event["count"]
        elif kind == "trial_end":
            history.trials[event["number"]].outcome = Outcome(event["outcome"])
    if (lost := next((number for number in range(len(history.trials)) if number not in history.trials), None)) is not None:
        raise ConfigError(f"{FILE_NAME}: trial {lost} is not in it although later ones are; {WAY_OUT}")
    return history
