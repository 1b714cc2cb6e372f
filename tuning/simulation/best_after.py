"""The baseline that multi-fidelity methods must beat: every trial runs a few epochs, and the best ones run to the end."""

from collections.abc import Iterable
from typing import Any

from ray.tune.schedulers import FIFOScheduler, TrialScheduler


class BestAfter(FIFOScheduler):
    """Pauses each trial after `epochs`; then the `top` best by `metric` continue: i-epoch, Egele et al. 2023 (arXiv:2307.15422).

    Ties go to the earlier trial. Only for simulated sweeps, because Ray does not signal that the search has proposed its last
    trial.
    """

    def __init__(self, epochs: int, *, metric: str, top: int = 3) -> None:
        super().__init__()
        self._epochs = epochs
        self._top = top
        self._measured = metric
        self._values: dict[str, float] = {}

    def on_trial_result(self, tune_controller: Any, trial: Any, result: dict[str, Any]) -> str:
        if result["epoch"] != self._epochs:
            return str(TrialScheduler.CONTINUE)
        self._values[trial.trial_id] = result[self._measured]
        return str(TrialScheduler.PAUSE)

    def best(self, paused: Iterable[Any]) -> list[Any]:
        """The trials among `paused`, given in the order of their pauses, that continue; best first."""
        return sorted(paused, key=lambda trial: -self._values[trial.trial_id])[: self._top]
