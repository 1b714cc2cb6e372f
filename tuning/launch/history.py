"""History of a launch, one record a trial, from its journal: a killed study is rebuilt from it."""

import sys
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import Any

from cpsc.errors import ConfigError
from tuning.launch.clock import Clock
from tuning.launch.journal import JOURNAL_FILE, WAY_OUT, Event
from tuning.outcome import Outcome


@dataclass
class TrialHistory:
    """One trial so far. `values`: the search's metric by epoch; `checkpoints`: folders, oldest first."""

    number: int
    point: dict[str, Any]
    values: dict[int, float] = field(default_factory=dict)
    checkpoints: list[str] = field(default_factory=list)
    num_retries: int = 0
    outcome: Outcome | None = None
    num_starts: int = 0
    is_running: bool = False
    """Started in the latest attempt, and not ended."""
    was_retried: bool = False
    """Since it last started."""

    @property
    def last_epoch(self) -> int:
        return next(reversed(self.values), 0)  # they come in their order

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
    """Time under way, over all attempts, each up to its last sign of life."""
    last_sign: float = 0.0
    """When a driver was last heard of."""
    remarks: list[str] = field(default_factory=list)
    """What is odd in the journal and changes no result."""

    @property
    def num_epochs(self) -> int:
        return len(self.results)


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


def _form_fault(event: Event, metric: str) -> str | None:
    """What is wrong with `event` by itself, in words."""
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
    return None


def _launch_fault(event: Event, history: LaunchHistory) -> str | None:
    """What is wrong with an event of the launch itself where it follows upon `history`, in words."""
    kind, attempts = event["kind"], history.num_attempts
    if kind == "launch_start" and history.launch_id:
        return "launch_start stands twice, are these two journals in one file?"
    if kind == "launch_start" and (history.trials or attempts):
        return "launch_start stands after other records"
    if kind == "attempt_start" and event["attempt"] != attempts:
        return f"attempt {event['attempt']} follows upon {attempts}, lines are missing, stand twice or in another order"
    if kind == "launch_end" and history.is_over:
        return "launch_end stands twice, an attempt_start is missing"
    return None


def _trial_fault(event: Event, history: LaunchHistory) -> str | None:
    """The same for an event of a trial."""
    kind, number = event["kind"], event["number"]
    trial = history.trials.get(number)
    if history.launch_id and not history.num_attempts:
        return f"{kind} of trial {number} stands before the first attempt, an attempt_start is missing"
    if history.is_over and kind != "trial_end":
        return f"{kind} of trial {number} stands after the launch's end, an attempt_start is missing"
    if kind == "proposed":
        if trial is not None:
            return f"trial {number} is proposed twice"
        expected = len(history.trials)
        return None if number == expected else f"trial {number} is proposed, but trial {expected} was not: lines are missing"
    if trial is None:
        return f"trial {number} was never proposed"
    if kind == "trial_end":
        return _end_fault(event, trial)
    if kind == "epoch":
        return _epoch_fault(event, trial)
    if kind == "checkpoint":
        return _checkpoint_fault(trial)
    if trial.is_over:
        return f"{kind} of trial {number} stands after its end"
    if kind == "retry" and event["count"] <= trial.num_retries:
        return f"retry {event['count']} of trial {number} follows upon {trial.num_retries}"
    return None


def _epoch_fault(event: Event, trial: TrialHistory) -> str | None:
    number, epoch, last = trial.number, event["epoch"], trial.last_epoch
    if trial.outcome is not None:
        return f"epoch {epoch} of trial {number} stands after its end, a trial_start is missing"
    if not trial.is_running:
        return f"epoch {epoch} of trial {number} stands before its start, a trial_start is missing"
    if epoch <= last:
        return f"epoch {epoch} of trial {number} stands twice" if epoch in trial.values else f"trial {number} has an epoch {epoch}"
    return None if epoch == last + 1 else f"epoch {epoch} of trial {number} follows upon {last}: {_missing(last + 1, epoch - 1)}"


def _checkpoint_fault(trial: TrialHistory) -> str | None:
    """One may come after the trial's end, written as that was noted; only a trial that went back repeats epochs unrecorded."""
    number, checkpoints, epochs = trial.number, len(trial.checkpoints) + 1, trial.last_epoch
    if epochs and (checkpoints <= epochs or trial.num_starts > 1 or trial.num_retries):
        return None
    return f"trial {number} has its checkpoint {checkpoints} after {epochs} epochs, an epoch is missing"


def _end_fault(event: Event, trial: TrialHistory) -> str | None:
    number, epoch, last, outcome = trial.number, event["epoch"], trial.last_epoch, Outcome(event["outcome"])
    if trial.is_over or trial.outcome is outcome:
        return f"trial {number} ends twice"
    if epoch != last:
        gap = _missing(last + 1, epoch) if epoch > last else "its end is another's"
        return f"trial {number} ends after epoch {epoch}, but has {last or 'none'}: {gap}"
    if outcome not in (Outcome.FAILED, Outcome.INTERRUPTED) and not last:
        return f"trial {number} is {outcome} without an epoch"
    return None


def _missing(first: int, last: int) -> str:
    return f"epoch {first} is missing" if first == last else f"epochs {first} to {last} are missing"


def _oddity(event: Event, history: LaunchHistory) -> str | None:
    """What is odd about `event` where it follows upon `history`, though no number is wrong for it, in words."""
    if event["kind"] == "trial_start":
        trial = history.trials[event["number"]]
        return (
            f"trial {trial.number} starts twice without a retry, it counts once"
            if trial.is_running and not trial.was_retried
            else None
        )
    if event["kind"] == "launch_end" and event["status"] == "FINISHED":
        running = [number for number, trial in history.trials.items() if trial.is_running]
        return f"the end of trial {running[0]} is missing, its epochs tell whether it goes on" if running else None
    return None


def replay_events(events: Iterable[Event], *, metric: str) -> LaunchHistory:
    """The history that `events`, a journal from its start, tell; `metric` names the value that search and scheduler look at.

    ConfigError, naming the journal's line, where an event is not what a sweep writes, or not where it writes it.
    """
    history = LaunchHistory()
    clock, odd = Clock(), []
    for line, event in enumerate(events, start=1):
        fault = _form_fault(event, metric)
        fault = fault or (_trial_fault if "number" in FIELDS[event["kind"]] else _launch_fault)(event, history)
        if fault is not None:
            raise ConfigError(f"{JOURNAL_FILE} line {line}: {fault}; {WAY_OUT}")
        clock.advance(event, line)
        if (oddity := _oddity(event, history)) is not None:
            odd.append(f"line {line}: {oddity}")
        _take_in(event, history, metric)
    clock.finish()
    history.elapsed_s, history.last_sign, history.remarks = clock.elapsed_s, clock.last_sign, clock.remarks + odd
    return history


def _take_in(event: Event, history: LaunchHistory, metric: str) -> None:
    kind = event["kind"]
    if kind == "launch_start":
        history.launch_id = event["launch_id"]
    elif kind == "attempt_start":
        history.num_attempts += 1
        history.is_over = False
        for trial in history.trials.values():
            trial.is_running = False
    elif kind == "launch_end":
        history.is_over = True
    elif kind == "proposed":
        history.trials[event["number"]] = TrialHistory(event["number"], event["point"])
    else:
        _take_in_of_trial(event, history, history.trials[event["number"]], metric)


def _take_in_of_trial(event: Event, history: LaunchHistory, trial: TrialHistory, metric: str) -> None:
    kind = event["kind"]
    if kind == "trial_start":
        trial.outcome, trial.is_running, trial.was_retried = None, True, False
        trial.num_starts += 1
    elif kind == "epoch":
        value = event["metrics"][metric]
        trial.values[event["epoch"]] = value
        history.results.append((trial.number, event["epoch"], value))
    elif kind == "checkpoint":
        trial.checkpoints.append(event["path"])
    elif kind == "retry":
        trial.num_retries, trial.was_retried = event["count"], True
    elif kind == "trial_end":
        trial.outcome, trial.is_running = Outcome(event["outcome"]), False
