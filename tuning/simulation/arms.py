"""Arms of a comparison: a sampler, and how trials are ended early."""

import difflib
import re
from dataclasses import dataclass, replace
from pathlib import Path

from cpsc.errors import ConfigError
from tuning.simulation.best_after import BestAfter
from tuning.study import Study, load_study

NONE, ASHA = "none", "asha"
TOP = 3
"""Trials that go on to their end after an arm's first epochs, as in Egele et al. 2023."""
_FIRST_EPOCHS = re.compile(r"([1-9][0-9]{0,3})-epochs?(?::([1-9][0-9]{0,4}))?")
RULE = "SAMPLER, SAMPLER+asha, or SAMPLER+N-epoch, e.g. tpe+2-epoch, or tpe+2-epoch:40 for 40 trials"


@dataclass(frozen=True)
class Arm:
    """`pruning`: `NONE`, or `ASHA` as the study sets it. `first_epochs`: see `BestAfter`; None where it is not used.

    `num_trials`: that begin, where `first_epochs` is used; None: as many as the study has.
    """

    sampler: str
    pruning: str = NONE
    first_epochs: int | None = None
    num_trials: int | None = None

    @classmethod
    def parse(cls, text: str) -> "Arm":
        """From ``random``, ``tpe+asha``, ``tpe+2-epoch:40``. ConfigError where what follows the sampler is none of these."""
        sampler, _, policy = text.partition("+")
        if policy in ("", NONE, ASHA):
            return cls(sampler, policy or NONE)
        if found := _FIRST_EPOCHS.fullmatch(policy):
            return cls(sampler, first_epochs=int(found[1]), num_trials=int(found[2]) if found[2] else None)
        close = difflib.get_close_matches(policy, (ASHA, NONE, "1-epoch"), n=1)
        hint = f"did you mean {close[0]}?" if close else f"name {RULE}"
        raise ConfigError(f"--arm: {text!r} ends trials in an unknown way, {hint}")

    def __str__(self) -> str:
        if not self.first_epochs:
            return self.sampler if self.pruning == NONE else f"{self.sampler}+{self.pruning}"
        return f"{self.sampler}+{self.first_epochs}-epoch" + (f":{self.num_trials}" if self.num_trials else "")

    def load(self, file: Path, overrides: list[str]) -> Study:
        """The study with this arm's sampler and pruning; all else, the sampler's settings among it, is the study's own.

        ConfigError where the study knows no such sampler, or its trials end too early for this arm.
        """
        if self.sampler == "grid":
            raise ConfigError(f"--arm: {self} draws nothing, a grid is the same for every seed; name random or tpe")
        study = load_study(file, [*overrides, f"search.sampler={self.sampler}", f"prune.scheduler={self.pruning}"])
        if self.first_epochs and self.first_epochs >= study.config.epochs:
            raise ConfigError(f"--arm: {self} must stop before the last epoch, trials have {study.config.epochs}")
        return study

    def within(self, study: Study, epochs: int, seed: int) -> Study:
        """`study` with `seed`, and with as many trials as an `epochs` budget over all of them holds.

        ConfigError where it holds none, or not those of an arm that says how many it begins.
        """
        whole = study.config.epochs
        trials, budget = epochs // whole, None
        if self.pruning == ASHA:
            trials = budget = epochs  # for a trial takes one epoch or more
        elif self.first_epochs:
            trials = self.num_trials or study.search.num_trials
            needed = trials * self.first_epochs + min(TOP, trials) * (whole - self.first_epochs)
            if needed > epochs:
                raise ConfigError(f"--epochs: {self} of {trials} trials takes {needed}, the budget is {epochs}")
        if trials < 1:
            raise ConfigError(f"--epochs: must hold a trial of {whole} epochs, got {epochs}")
        search = {"seed": seed, "num_trials": trials, "epoch_budget": budget}
        return replace(study, search=study.search.model_copy(update=search))

    def scheduler(self, study: Study) -> BestAfter | None:
        """What the study has no word for; None: its own."""
        return BestAfter(self.first_epochs, metric=study.metric, top=TOP) if self.first_epochs else None
