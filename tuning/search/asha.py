"""ASHA with rungs that survive a restart, and the epochs at which it compares trials."""

from collections import deque
from types import SimpleNamespace
from typing import Any

from ray.tune.experiment import Trial
from ray.tune.schedulers import ASHAScheduler, FIFOScheduler, TrialScheduler

from tuning.cluster.ray_compat import milestones_of
from tuning.launch.history import LaunchHistory
from tuning.study.config import PruneConfig, Study


class ResumableAsha(ASHAScheduler):
    """ASHA that can be restored: Ray loses the scheduler's state when a sweep is restored, so here the results are replayed.

    Rungs refer to our trial numbers, since Ray's ids change with every attempt. Finalists are never stopped.
    """

    def __init__(self, prune: PruneConfig, *, epochs: int, metric: str) -> None:
        super().__init__(
            time_attr="epoch",
            metric=metric,
            mode="max",
            max_t=epochs,
            grace_period=prune.grace_epochs,
            reduction_factor=prune.reduction_factor,
        )
        self._epochs = epochs
        self._objective = metric

    def on_trial_add(self, tune_controller: Any, trial: Trial) -> None:
        if _is_judged(trial):
            super().on_trial_add(tune_controller, _by_number(trial))

    def on_trial_result(self, tune_controller: Any, trial: Trial, result: dict[str, Any]) -> str:
        if not _is_judged(trial):
            return str(TrialScheduler.CONTINUE)
        return str(super().on_trial_result(tune_controller, _by_number(trial), result))

    def on_trial_complete(self, tune_controller: Any, trial: Trial, result: dict[str, Any]) -> None:
        if _is_judged(trial):
            super().on_trial_complete(tune_controller, _by_number(trial), result)

    def on_trial_remove(self, tune_controller: Any, trial: Trial) -> None:
        if _is_judged(trial):
            super().on_trial_remove(tune_controller, _by_number(trial))

    @property
    def rungs(self) -> list[int]:
        """The epochs at which a trial that reports every epoch is compared with others.

        Ray's rungs are not whole numbers. At each epoch Ray uses the highest rung that the trial has passed and was not compared at
        yet: if several rungs fall into one epoch, the lower ones wait for later epochs without a rung.
        """
        milestones = deque(milestones_of(self))
        compared, passed = [], []
        for epoch in range(1, self._epochs):
            while milestones and milestones[0] <= epoch:
                passed.append(milestones.popleft())
            if passed:
                passed.pop()
                compared.append(epoch)
        return compared

    def restore_rungs(self, history: LaunchHistory) -> set[int]:
        """Fill the rungs from `history` -> the numbers of the trials that should be stopped."""
        stopped = set()
        for number in history.searched:
            self.on_trial_add(None, _Numbered(number))
        for number, epoch, value in history.results:
            decision = self.on_trial_result(None, _Numbered(number), {"epoch": epoch, self._objective: value})
            if decision == TrialScheduler.STOP:
                stopped.add(number)
        return stopped


class _Numbered:
    """A stand-in for a trial of an earlier attempt: ASHA needs only a trial's name."""

    def __init__(self, number: int) -> None:
        self.config = {"number": number}


def _is_judged(trial: Any) -> bool:
    return trial.config.get("finalist_of") is None


def _by_number(trial: Any) -> Any:
    return SimpleNamespace(trial_id=f"trial-{trial.config['number']}")


def build_scheduler(study: Study) -> ResumableAsha | FIFOScheduler:
    """ASHA over epochs, or a scheduler that stops nothing: in a population, the search makes trials wait."""
    if study.prune.scheduler != "asha":
        return FIFOScheduler()
    return ResumableAsha(study.prune, epochs=study.config.epochs, metric=study.metric)


def rungs_of(prune: PruneConfig, epochs: int) -> list[int]:
    """The epochs after which the scheduler may stop a trial of `epochs`."""
    if prune.scheduler != "asha" or prune.grace_epochs >= epochs:
        return []
    return ResumableAsha(prune, epochs=epochs, metric="").rungs
