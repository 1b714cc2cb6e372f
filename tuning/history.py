"""What a launch's journal says, folded into one record a trial: from it a killed study is rebuilt."""

from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

from tuning.journal import Event
from tuning.outcome import Outcome


@dataclass
class TrialHistory:
    """One trial so far. `values`: the search's metric by epoch; `checkpoints`: folders, oldest first."""

    number: int
    point: dict[str, Any]
    values: dict[int, float] = field(default_factory=dict)
    checkpoints: list[str] = field(default_factory=list)
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


def fold(events: Iterable[Event], *, metric: str) -> LaunchHistory:
    """The history that `events` tell; `metric` names the value that search and scheduler look at."""
    history = LaunchHistory()
    previous_time = 0.0
    for event in events:
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
        elif kind == "trial_end":
            history.trials[event["number"]].outcome = Outcome(event["outcome"])
    return history
