"""Arms of a comparison: a sampler, how trials are stopped early, what is known beforehand, and when the search ends."""

import re
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from cpsc.errors import ConfigError
from tuning.simulation.best_after import BestAfter
from tuning.study import Study, load_study
from tuning.study.near_misses import meant

NONE, ASHA = "none", "asha"
TRANSFER, MISLED = "transfer", "misled"
TOP = 3
"""Number of trials that continue to their end after an arm's first epochs, as in Egele et al. 2023."""
_FIRST_EPOCHS = re.compile(r"([1-9][0-9]{0,3})-epochs?(?::([1-9][0-9]{0,4}))?")
_STOP = re.compile(r"stop-([1-9][0-9]{0,4})")
RULE = (
    "SAMPLER, SAMPLER+asha, or SAMPLER+N-epoch, e.g. tpe+2-epoch, or tpe+2-epoch:40 for 40 trials; "
    "then +transfer or +misled, and +stop-N"
)


@dataclass(frozen=True)
class Arm:
    """One arm. `pruning`: `NONE`, or `ASHA` as the study sets it. `first_epochs`: see `BestAfter`; None if it is not used.

    `num_trials`: number of trials that start, with `first_epochs`; None: the study's. `earlier`: `TRANSFER` if the results of an
    earlier search are known, `MISLED` if they are known with reversed scores, or empty. `patience`: value of
    ``search.stop.trials_without_gain``; None: the study's.
    """

    sampler: str
    pruning: str = NONE
    first_epochs: int | None = None
    num_trials: int | None = None
    earlier: str = ""
    patience: int | None = None

    @classmethod
    def parse(cls, text: str) -> "Arm":
        """Parse for example ``random``, ``tpe+2-epoch:40`` or ``tpe+asha+transfer``. ConfigError if a part is unknown."""
        sampler, *parts = text.split("+")
        settings: dict[str, Any] = {}
        for part in parts:
            found = cls._setting(part)
            if not found or found.keys() & settings.keys():
                raise ConfigError(f"--arm: {text!r} has {part!r}, which is unknown there; {_hint(part)}")
            settings |= found
        return cls(sampler, **settings)

    @staticmethod
    def _setting(part: str) -> dict[str, Any]:
        """The setting of one of the parts after the sampler; empty if the part is unknown."""
        if part in ("", NONE, ASHA):
            return {"pruning": part or NONE}
        if part in (TRANSFER, MISLED):
            return {"earlier": part}
        if found := _STOP.fullmatch(part):
            return {"patience": int(found[1])}
        if found := _FIRST_EPOCHS.fullmatch(part):
            return {"pruning": NONE, "first_epochs": int(found[1]), "num_trials": int(found[2]) if found[2] else None}
        return {}

    def __str__(self) -> str:
        trials = f":{self.num_trials}" if self.num_trials else ""
        parts = (
            f"{self.first_epochs}-epoch{trials}" if self.first_epochs else "",
            self.pruning if self.pruning != NONE else "",
            self.earlier,
            f"stop-{self.patience}" if self.patience else "",
        )
        return "+".join((self.sampler, *filter(None, parts)))

    def load(self, file: Path, overrides: list[str]) -> Study:
        """The study with this arm's sampler and pruning; everything else, including the sampler's settings, is the study's own.

        ConfigError if there is no such sampler, or if the study's trials are too short for this arm.
        """
        if self.sampler == "grid":
            raise ConfigError(f"--arm: {self} draws nothing, so it is the same for every seed; name random or tpe")
        stop = [f"search.stop={{trials_without_gain: {self.patience}}}"] if self.patience else []
        study = load_study(file, [*overrides, f"search.sampler={self.sampler}", f"prune.scheduler={self.pruning}", *stop])
        if self.first_epochs and self.first_epochs >= study.config.epochs:
            raise ConfigError(f"--arm: {self} must stop before the last epoch, but trials have {study.config.epochs}")
        return study

    def within(self, study: Study, epochs: int, seed: int) -> Study:
        """`study` with `seed`, and with as many trials as fit into a budget of `epochs` over all of them.

        ConfigError if not even one fits, or not the number of trials that the arm asks for.
        """
        whole = study.config.epochs
        trials, budget = epochs // whole, None
        if self.pruning == ASHA:
            trials = budget = epochs  # because each trial takes at least one epoch
        elif self.first_epochs:
            trials = self.num_trials or study.search.num_trials
            needed = trials * self.first_epochs + min(TOP, trials) * (whole - self.first_epochs)
            if needed > epochs:
                raise ConfigError(f"--epochs: {self} of {trials} trials takes {needed}, but the budget is {epochs}")
        if trials < 1:
            raise ConfigError(f"--epochs: must be enough for a trial of {whole} epochs, got {epochs}")
        search = {"seed": seed, "num_trials": trials, "epoch_budget": budget}
        return replace(study, search=study.search.model_copy(update=search))

    def without_earlier(self) -> "Arm":
        """The same arm without knowledge of an earlier search."""
        return replace(self, earlier="")

    def scheduler(self, study: Study) -> BestAfter | None:
        """The scheduler that a study file cannot name; None: the study's own."""
        return BestAfter(self.first_epochs, metric=study.metric, top=TOP) if self.first_epochs else None


def _hint(part: str) -> str:
    guess = meant(part, (ASHA, NONE, "1-epoch", TRANSFER, MISLED, "stop-10"))
    return f"did you mean {guess}?" if guess else f"name {RULE}"
