"""Progress display of a sweep: trials done, running and pruned, the best so far, the time left."""

import time
from typing import Any, Protocol

from ray.tune import Callback
from ray.tune.experiment import Trial
from rich.console import Console

from tuning.display import HEARTBEAT_S, bar_columns, percent
from tuning.interruption import CtrlC
from tuning.launch import LaunchHistory
from tuning.outcome import Outcome, length_of, outcome_of
from tuning.study.nested_keys import Point
from tuning.study.search_space import REPEATED_PATH
from tuning.sweep.forecast import Forecast, TimeLeft
from tuning.sweep.recorder import last_line, number_of, waits

LOOK_EVERY_S = 1.0
"""Interval for estimating the time left, which shrinks during an epoch. Not at each result: in a large study, results come faster
than the rest can be simulated."""


class Search(Protocol):
    """The searcher that proposes the trials."""

    has_ended: bool
    """Whether it proposes only finalists from now on."""

    @property
    def finalists_left(self) -> int | None:
        """Finalists' runs that it has not proposed yet; None while the finalists are not known."""


class SweepProgress(Callback):
    """A live bar on a terminal; elsewhere a line per finished trial, and one from time to time otherwise. It decides nothing.

    `forecast` already knows earlier attempts, and learns of this attempt's trials here. `search`: None if it does not report its
    end. `ctrl_c` starts to listen when the experiment begins, once Tune has set its own handler.
    """

    def __init__(
        self,
        history: LaunchHistory,
        forecast: Forecast,
        *,
        metric: str,
        quiet: bool,
        search: Search | None = None,
        ctrl_c: CtrlC | None = None,
    ) -> None:
        self._ctrl_c = ctrl_c
        self._forecast, self._metric, self._quiet, self._search = forecast, metric, quiet, search
        self._epochs = forecast.plan.epochs
        # In a large study the bar must not count all trials at each result.
        self._under_way: dict[int, int] = {}
        self._ended = {number: trial.outcome for number, trial in history.trials.items() if trial.is_over}
        self._num_pruned = sum(outcome is Outcome.PRUNED for outcome in self._ended.values())
        values = [(max(trial.values.values()), number) for number, trial in history.trials.items() if trial.values]
        self._best: tuple[float, int] | None = max(values, key=lambda pair: (pair[0], -pair[1]), default=None)
        self._left = TimeLeft(None)
        self._looked = self._said = 0.0
        self._bar: Any = None
        self.interrupted = False

    def setup(self, stop: Any = None, num_samples: int | None = None, total_num_samples: int | None = None, **info: Any) -> None:
        self._console = Console(stderr=True, highlight=False)
        self._said = time.time()
        if self._ctrl_c is not None:
            self._ctrl_c.listen()
        if self._console.is_terminal and not self._quiet:
            self._bar = bar_columns(self._console)
            self._task = self._bar.add_task("sweep", total=1.0, state="starting", left=lambda: str(self._left))
            self._bar.start()

    def on_step_end(self, iteration: int, trials: list[Trial], **info: Any) -> None:
        if time.time() - self._looked >= LOOK_EVERY_S:
            self._refresh()

    def on_trial_start(self, iteration: int, trials: list[Trial], trial: Trial, **info: Any) -> None:
        number, is_finalist = number_of(trial), trial.config.get("finalist_of") is not None
        self._under_way.setdefault(number, 0)
        length = length_of(_point(trial), self._epochs)
        self._forecast.start(number, time.time(), length=length, is_finalist=is_finalist)
        self._refresh()

    def on_trial_result(self, iteration: int, trials: list[Trial], trial: Trial, result: dict[str, Any], **info: Any) -> None:
        number, epoch = number_of(trial), int(result["epoch"])
        self._under_way[number] = epoch
        self._forecast.report(number, epoch, time.time(), epoch_s=float(result.get("epoch_s", 0.0)))
        value = float(result[self._metric])
        if self._best is None or value > self._best[0]:
            self._best = (value, number)
        self._refresh()

    def on_trial_recover(self, iteration: int, trials: list[Trial], trial: Trial, **info: Any) -> None:
        checkpoint = "its last checkpoint" if trial.checkpoint else "the start"
        reason = last_line(trial.error_file) or "its worker died"
        self._say(f"trial {number_of(trial):3d} continues from {checkpoint}: {reason[:200]}")

    def on_trial_complete(self, iteration: int, trials: list[Trial], trial: Trial, **info: Any) -> None:
        if waits(trial):
            return
        self._end(trial, outcome_of(trial.last_result, epochs=length_of(_point(trial), self._epochs)))

    def on_trial_error(self, iteration: int, trials: list[Trial], trial: Trial, **info: Any) -> None:
        self._end(trial, Outcome.FAILED)

    def on_experiment_end(self, trials: list[Trial], **info: Any) -> None:
        noted = self._ctrl_c is not None and self._ctrl_c.noted  # between two trials, no trial is unfinished
        self.interrupted = noted or any(number_of(trial) not in self._ended for trial in trials)
        self.close()

    def close(self) -> None:
        """Restore the terminal."""
        if self._bar is not None:
            self._bar.stop()
            self._bar = None

    def _end(self, trial: Trial, outcome: Outcome) -> None:
        number = number_of(trial)
        self._ended[number] = outcome
        self._num_pruned += outcome is Outcome.PRUNED
        epoch = self._under_way.pop(number, 0)
        self._forecast.end(number, time.time())
        self._refresh()
        value = (trial.last_result or {}).get(self._metric)
        if self._bar is None:
            finalist_of = trial.config.get("finalist_of")
            whose = "" if finalist_of is None else f" (finalist: trial {finalist_of} with seed {_point(trial)[REPEATED_PATH]})"
            ended = f"trial {number:3d} {outcome.value:9s} after epoch {epoch:3d} at {percent(value)}{whose}"
            self._say(f"{ended} | {self._state()}, {self._left}")

    def _refresh(self) -> None:
        now = time.time()
        if self._search is not None and self._search.has_ended:
            self._forecast.end_search(finalists=self._search.finalists_left)
        is_known = self._left.seconds is not None and not self._left.at_least
        if not is_known or now - self._looked >= LOOK_EVERY_S or not self._under_way:  # the last line must be up to date
            self._looked, self._left = now, self._forecast.left(now)
        if self._bar is not None:
            share = self._forecast.share_done(now, self._left.seconds)
            self._bar.update(self._task, completed=share, state=self._state())
        elif now - self._said >= HEARTBEAT_S:
            self._say(f"sweep: {self._state()}, {self._left}")

    def _say(self, text: str) -> None:
        self._said = time.time()
        if not self._quiet:
            self._console.print(text, markup=False, soft_wrap=True)

    def _state(self) -> str:
        done, running, pruned = len(self._ended), len(self._under_way), self._num_pruned
        best = f"best {percent(self._best[0])} (trial {self._best[1]})" if self._best else "no result yet"
        return f"{done}/{self._forecast.num_trials} done, {running} running, {pruned} pruned, {best}"

    def __getstate__(self) -> dict[str, Any]:
        own = {key: value for key, value in vars(self).items() if key != "_console"}
        return own | dict.fromkeys(("_bar", "_search", "_ctrl_c"))


def _point(trial: Trial) -> Point:
    point: Point = trial.config.get("point", {})
    return point
