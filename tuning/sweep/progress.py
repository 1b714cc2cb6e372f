"""The sweep's progress for a person: trials done, running, pruned, the best so far, the time left."""

import time
from typing import Any

from ray.tune import Callback
from ray.tune.experiment import Trial
from rich.console import Console

from tuning.display import bar_columns, percent
from tuning.launch import LaunchHistory
from tuning.outcome import Outcome, length_of, outcome_of
from tuning.study.finalists import FinalistConfig
from tuning.study.nested_keys import Point
from tuning.study.search_space import REPEATED_PATH
from tuning.sweep.recorder import last_line, number_of, waits


class SweepProgress(Callback):
    """A live bar on a terminal, a line a finished trial elsewhere. Only looks, decides nothing."""

    def __init__(
        self,
        history: LaunchHistory,
        *,
        num_trials: int,
        epochs: int,
        metric: str,
        quiet: bool,
        finalists: FinalistConfig | None = None,
    ) -> None:
        self._num_trials, self._epochs, self._metric, self._quiet = num_trials, epochs, metric, quiet
        self._total_worth = float(num_trials)
        if finalists is not None:
            self._num_trials += finalists.num_runs
            self._total_worth += finalists.num_runs * finalists.length(epochs) / epochs
        # Of a large study the bar must not count all trials at each result.
        self._under_way: dict[int, int] = {}
        self._ended = {number: trial.outcome for number, trial in history.trials.items() if trial.is_over}
        self._num_pruned = sum(outcome is Outcome.PRUNED for outcome in self._ended.values())
        values = [(max(trial.values.values()), number) for number, trial in history.trials.items() if trial.values]
        self._best: tuple[float, int] | None = max(values, key=lambda pair: (pair[0], -pair[1]), default=None)
        self._ended_worth = sum(self._worth_of(trial.point) for trial in history.trials.values() if trial.is_over)
        self._worth_before = self._ended_worth
        self._started = time.monotonic()
        self._bar: Any = None
        self.interrupted = False

    def setup(self, stop: Any = None, num_samples: int | None = None, total_num_samples: int | None = None, **info: Any) -> None:
        self._started = time.monotonic()
        self._console = Console(stderr=True, highlight=False)
        if self._console.is_terminal and not self._quiet:
            self._bar = bar_columns(self._console)
            self._task = self._bar.add_task("sweep", total=self._total_worth, state="starting")
            self._bar.start()

    def on_trial_start(self, iteration: int, trials: list[Trial], trial: Trial, **info: Any) -> None:
        self._under_way.setdefault(number_of(trial), 0)
        self._refresh()

    def on_trial_result(self, iteration: int, trials: list[Trial], trial: Trial, result: dict[str, Any], **info: Any) -> None:
        self._under_way[number_of(trial)] = int(result["epoch"])
        value = float(result[self._metric])
        if self._best is None or value > self._best[0]:
            self._best = (value, number_of(trial))
        self._refresh()

    def on_trial_recover(self, iteration: int, trials: list[Trial], trial: Trial, **info: Any) -> None:
        if not self._quiet:
            checkpoint = "its last checkpoint" if trial.checkpoint else "the start"
            reason = last_line(trial.error_file) or "its worker died"
            self._console.print(
                f"trial {number_of(trial):3d} goes on from {checkpoint}: {reason[:200]}", markup=False, soft_wrap=True
            )

    def on_trial_complete(self, iteration: int, trials: list[Trial], trial: Trial, **info: Any) -> None:
        if waits(trial):
            return
        self._end(trial, outcome_of(trial.last_result, epochs=length_of(_point(trial), self._epochs)))

    def on_trial_error(self, iteration: int, trials: list[Trial], trial: Trial, **info: Any) -> None:
        self._end(trial, Outcome.FAILED)

    def on_experiment_end(self, trials: list[Trial], **info: Any) -> None:
        self.interrupted = any(number_of(trial) not in self._ended for trial in trials)
        self.close()

    def close(self) -> None:
        """Put the terminal back in order."""
        if self._bar is not None:
            self._bar.stop()
            self._bar = None

    def _end(self, trial: Trial, outcome: Outcome) -> None:
        number = number_of(trial)
        self._ended[number] = outcome
        self._ended_worth += self._worth_of(_point(trial))
        self._num_pruned += outcome is Outcome.PRUNED
        epoch = self._under_way.pop(number, 0)
        value = (trial.last_result or {}).get(self._metric)
        if self._bar is None and not self._quiet:
            finalist_of = trial.config.get("finalist_of")
            whose = "" if finalist_of is None else f" (finalist: trial {finalist_of} with seed {_point(trial)[REPEATED_PATH]})"
            ended = f"trial {number:3d} {outcome.value:9s} after epoch {epoch:3d} at {percent(value)}{whose}"
            self._console.print(f"{ended} | {self._state()}, {self._time_left()}", soft_wrap=True)
        self._refresh()

    def _refresh(self) -> None:
        if self._bar is not None:
            self._bar.update(self._task, completed=self._trials_worth(), state=self._state())

    def _state(self) -> str:
        done, running, pruned = len(self._ended), len(self._under_way), self._num_pruned
        best = f"best {percent(self._best[0])} (trial {self._best[1]})" if self._best else "no result yet"
        return f"{done}/{self._num_trials} done, {running} running, {pruned} pruned, {best}"

    def _trials_worth(self) -> float:
        """Finished trials, and of the running ones the part they have done; one of another length counts by its epochs."""
        return self._ended_worth + sum(self._under_way.values()) / self._epochs

    def _worth_of(self, point: Point) -> float:
        return length_of(point, self._epochs) / self._epochs

    def _time_left(self) -> str:
        done = max(self._trials_worth() - self._worth_before, 0.1)  # what this attempt has done in its time
        left = (time.monotonic() - self._started) * (self._total_worth - self._trials_worth()) / done
        return f"about {left / 60:.0f} min left" if left > 90 else f"about {left:.0f} s left"

    def __getstate__(self) -> dict[str, Any]:
        return {key: value for key, value in vars(self).items() if key not in ("_bar", "_console")} | {"_bar": None}


def _point(trial: Trial) -> Point:
    point: Point = trial.config.get("point", {})
    return point
