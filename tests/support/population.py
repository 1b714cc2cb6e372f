"""A population's sweep in this process: real search, trials, checkpoints and journal; Ray's loop is played, in any order.

What the driver appends can be cut off behind any of its records, as SIGKILL does, with all that trials have computed since.
"""

import random
from dataclasses import dataclass, field, replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

from ray.tune import Checkpoint
from ray.tune.experiment import Trial
from ray.tune.schedulers import FIFOScheduler

from tests.support.trials import make_context
from tuning.launch import Journal, LaunchHistory, replay_events
from tuning.launch.events import AttemptStart, Event, LaunchStart, Proposed
from tuning.search.optuna_search import build_search
from tuning.search.population_search import search_kind
from tuning.storage import Storage
from tuning.study import Study
from tuning.study.config import resolve_study
from tuning.sweep.recorder import Recorder
from tuning.sweep.recovery import close_finished_trials
from tuning.trial.context import TrialContext
from tuning.trial.trainable import DistillTrainable, local_trainable

SPACE = {
    "weights.l2": {"loguniform": [0.1, 10]},
    "contrast_temperature": {"uniform": [0.05, 1.0]},
    "student.lr": {"loguniform": [0.01, 0.3]},
}
LENGTH = 4


class Killed(BaseException):
    """The driver is dead."""


class MortalJournal(Journal):
    """Ends its driver behind so many records."""

    records_left = 10**9

    def append(self, event: Event) -> None:
        if not self.records_left:
            raise Killed
        self.records_left -= 1
        super().append(event)


@dataclass
class Population:
    """A launch of a study whose trials are a population, in `folder`."""

    folder: Path
    study: Study
    context: TrialContext
    rng: random.Random = field(default_factory=lambda: random.Random(0))

    @classmethod
    def of(cls, folder: Path, *, size: int = 4, seed: int = 0, **prune: Any) -> "Population":
        """Trials of `LENGTH` epochs that are compared after each, or as `prune` says; nothing has begun."""
        context = replace(make_context({}), storage=Storage(str(folder)))
        study = resolve_study(
            {
                "name": "small",
                "config": {"teacher": {"path": "teacher.pt"}, "num_classes": 5, "epochs": LENGTH, "student": {"warmup_epochs": 1}},
                "objective": "probe_agreement",
                "space": SPACE,
                "search": {"num_trials": size, "sampler": "random", "seed": seed},
                "prune": {"scheduler": "pbt", "interval": 1} | prune,
                "storage": str(folder),
            }
        )
        population = cls(folder, replace(study, base=context.base), context)
        params = {"objective": "probe_agreement", "epochs": str(LENGTH), "scheduler": "pbt"}
        population.journal.append(LaunchStart(time=0.0, launch_id="x", params=params, study=""))
        return population

    @property
    def journal(self) -> MortalJournal:
        return MortalJournal(self.folder)

    def events(self) -> list[Event]:
        return list(self.journal.events())

    def run(self, *, records: int = 10**9, slots: int = 2) -> bool:
        """Drive the launch until it ends, or until its journal has so many more records -> whether it has ended."""
        journal = self.journal
        journal.repair()
        journal.records_left = records
        try:
            self._attempt(journal, slots)
        except Killed:
            return False
        return True

    def _attempt(self, journal: MortalJournal, slots: int) -> None:
        history = close_finished_trials(journal, self.study, FIFOScheduler())
        attempt = history.num_attempts
        journal.append(AttemptStart(time=0.0, attempt=attempt))
        recorder = Recorder(journal, history, self.study.base, epochs=LENGTH, shared={})
        search = build_search(self.study, history, journal, self.study.start, kind=search_kind(self.study))
        running: dict[str, tuple[Any, DistillTrainable]] = {}
        for index in range(10**6):
            while len(running) < slots and isinstance(config := search.suggest(f"{attempt}-{index}-{len(running)}"), dict):
                trial = _tune_trial(f"{attempt}-{index}-{len(running)}", config)
                running[trial.trial_id] = (trial, self._trainable(config))
                recorder.on_trial_start(0, [], cast(Trial, trial))
            if not running:
                return
            trial_id = self.rng.choice(list(running))
            if self._step(*running[trial_id], search, recorder, f"attempt-{attempt:03d}"):
                del running[trial_id]

    def _trainable(self, config: dict[str, Any]) -> DistillTrainable:
        trainable = local_trainable(self.context, config["point"])
        trainable.reset_config(config)
        return trainable

    def _step(self, trial: Any, trainable: DistillTrainable, search: Any, recorder: Recorder, attempt: str) -> bool:
        """An epoch and its checkpoint, as Ray tells of them -> whether it was the trial's last one before it ends or waits."""
        result = trainable.step()
        if not result["done"]:
            search.on_trial_result(trial.trial_id, result)
        recorder.on_trial_result(0, [], trial, result)
        trial.last_result = result
        folder = self.folder / attempt / f"trial-{trial.trial_id}" / f"checkpoint_{result['epoch']:06d}"
        folder.mkdir(parents=True)
        trainable.save_checkpoint(str(folder))
        trial.checkpoint = SimpleNamespace(path=str(folder))
        recorder.on_checkpoint(0, [], trial, cast(Checkpoint, trial.checkpoint))
        if result["done"]:
            search.on_trial_complete(trial.trial_id, result)
            recorder.on_trial_complete(0, [], trial)
        return bool(result["done"])

    def history(self) -> LaunchHistory:
        return replay_events(self.events(), metric=self.study.metric)


def _tune_trial(trial_id: str, config: dict[str, Any]) -> Any:
    """What the recorder looks at of Ray's."""
    return SimpleNamespace(trial_id=trial_id, config=config, checkpoint=None, last_result={}, run_metadata=SimpleNamespace())


def rest_of(events: list[Event]) -> int:
    """How many records of a launch follow upon the proposals of its population."""
    return len(events) - 1 - max(index for index, event in enumerate(events) if isinstance(event, Proposed))
