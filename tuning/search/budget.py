"""Budget of a search: when no new trials are proposed."""

import time
from dataclasses import dataclass, field

from tuning.launch import LaunchHistory
from tuning.outcome import trials_since_gain
from tuning.study import Study


@dataclass
class Budget:
    """The limits of a search, None meaning no limit, and what it has used. Running trials may finish beyond the budget.

    `values`: each trial's latest value, by number; `ended`: the numbers of trials that have ended.
    """

    num_trials: int
    epochs: int | None = None
    time_s: float | None = None
    trials_without_gain: int | None = None
    min_gain: float = 0.0
    num_proposed: int = 0
    spent_epochs: int = 0
    started: float = 0.0
    values: dict[int, float] = field(default_factory=dict)
    ended: set[int] = field(default_factory=set)

    def take_result(self, number: int, value: float) -> None:
        """Count an epoch of the trial `number`, with its new value."""
        self.spent_epochs += 1
        self.values[number] = value

    @property
    def is_spent(self) -> bool:
        """Whether nothing more may be proposed."""
        return self.is_used_up_by(self.num_proposed)

    def is_used_up_by(self, num_proposed: int) -> bool:
        """Whether `num_proposed` proposals, the epochs run, or the time since `started` use it up, or trials no longer improve."""
        return (
            num_proposed >= self.num_trials
            or (self.epochs is not None and self.spent_epochs >= self.epochs)
            or (self.time_s is not None and time.monotonic() - self.started >= self.time_s)
            or self.has_stalled
        )

    @property
    def has_stalled(self) -> bool:
        """Whether as many trials in a row as the study allows have ended without an improvement."""
        return self.trials_without_gain is not None and self.trials_since_gain >= self.trials_without_gain

    @property
    def trials_since_gain(self) -> int:
        """See `tuning.outcome.trials_since_gain`."""
        return trials_since_gain(self.values, self.ended, min_gain=self.min_gain)


def budget_of(study: Study, history: LaunchHistory) -> Budget:
    """The budget of `study`, with what `history` has used. Only ended trials count as proposed; the others will be resumed."""
    search, searched = study.search, history.searched
    is_finished = history.finished_budget == search.num_trials
    return Budget(
        num_trials=len(searched) if is_finished else search.num_trials,
        epochs=search.epoch_budget,
        time_s=search.time_budget_s,
        trials_without_gain=search.stop.trials_without_gain,
        min_gain=search.stop.min_gain,
        num_proposed=sum(trial.is_over for trial in searched.values()),
        spent_epochs=history.num_epochs,
        started=time.monotonic() - history.elapsed_s,
        values={number: trial.values[trial.last_epoch] for number, trial in searched.items() if trial.values},
        ended={number for number, trial in searched.items() if trial.is_over},
    )
