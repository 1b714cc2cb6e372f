"""Results of a launch: its trials, the blind choice, and how good that was."""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import TYPE_CHECKING

from cpsc.ground import Ground
from tuning.lineage import Stretch, stretches
from tuning.outcome import RUNNING, Outcome, length_of, trials_since_gain
from tuning.results.choice import Finalist, finalists_of, ties_of
from tuning.results.trial_record import TrialRecord

if TYPE_CHECKING:
    from tuning.study import Study


@dataclass(frozen=True, kw_only=True)
class Launch:
    """One sweep: its run (None if read from a journal), its settings and its trials, in the order of `choice.ranked`."""

    name: str
    run_id: str | None
    objective: str
    epochs: int
    trials: Sequence[TrialRecord]
    study: str = ""
    latencies_ms: Mapping[str, float] = field(default_factory=dict)
    """Milliseconds per image by student architecture, on one thread of the driver's machine."""
    launch_id: str = ""
    """Identifies the launch among others of the same name, in every store; empty if an earlier version recorded it."""
    settings: Mapping[str, str] = field(default_factory=dict)
    """The study's parameters in the launch's run: budget, sampler, ranges, teacher."""
    is_open: bool = False
    """Whether its end is not recorded: it still runs, or its driver died and it was not resumed."""
    ground: Ground | None = None
    """Figures of its teacher and probe set before the first trial; None if an earlier version recorded the launch."""

    @property
    def chosen(self) -> TrialRecord | None:
        """The chosen trial: the first of `trials`, see `choice.ranked`; None if it has no result."""
        return self.trials[0] if self.trials and self.trials[0].best_epoch(self.objective) is not None else None

    @cached_property
    def ties(self) -> Sequence[TrialRecord]:
        """The other trials whose results, or finalists' means, cannot be told from the best: see `choice`."""
        return ties_of(self.trials, self.objective)

    @cached_property
    def finalists(self) -> Sequence[Finalist]:
        """Points of the search that were run again under new seeds, the chosen one first; empty if the study has no finalists."""
        return finalists_of(self.trials, self.objective)

    @property
    def searched(self) -> Sequence[TrialRecord]:
        """The trials that the search proposed, best first, without finalists' runs."""
        return [trial for trial in self.trials if trial.finalist_of is None]

    def length_of(self, trial: TrialRecord) -> int:
        """Number of epochs of `trial` if nothing stops it early."""
        return length_of(trial.point, self.epochs)

    def lineage_of(self, trial: TrialRecord) -> Sequence[Stretch]:
        """The trials and epochs that the state of `trial` comes from; empty if it copied no other trial."""
        if not trial.exploits:
            return []
        points = {other.number: other.first_point if other.exploits else other.point for other in self.trials}
        exploits = {other.number: other.exploits for other in self.trials}
        return stretches(trial.number, until=trial.num_epochs, points=points, exploits=exploits)

    @property
    def accuracy_metric(self) -> str:
        """Test accuracy if the launch measured it, else the blind score."""
        has_labels = any(trial.curves.get("test_accuracy") for trial in self.trials)
        return "test_accuracy" if has_labels else self.blind_metric

    @property
    def blind_metric(self) -> str:
        """The score that needs no labels: the search's objective or, if that is test accuracy, the probe agreement."""
        return "probe_agreement" if self.objective == "test_accuracy" else self.objective

    @property
    def epochs_run(self) -> int:
        return sum(trial.num_epochs for trial in self.trials)

    @property
    def epochs_unpruned(self) -> int:
        """Number of epochs if every trial had run to the end."""
        return sum(map(self.length_of, self.trials))

    def agreements_and_accuracies(self) -> list[tuple[float, float]]:
        """The blind score and test accuracy of every trial and epoch that has both."""
        return [
            (value, trial.curves["test_accuracy"][epoch])
            for trial in self.trials
            for epoch, value in trial.curves[self.blind_metric].items()
            if epoch in trial.curves["test_accuracy"]
        ]

    def rank_correlation(self) -> float | None:
        """Spearman's correlation of blind score and test accuracy over all trial-epochs; None below three, or without labels."""
        pairs = self.agreements_and_accuracies()
        return None if len(pairs) < 3 else spearman(*zip(*pairs, strict=True))

    def regret(self) -> float | None:
        """Best test accuracy among the trials' results minus that of the chosen one; None without labels."""
        accuracies = [accuracy for trial in self.trials if (accuracy := trial.at_best("test_accuracy", self.objective)) is not None]
        chosen = self.chosen.at_best("test_accuracy", self.objective) if self.chosen else None
        return None if chosen is None else max(accuracies) - chosen

    @property
    def trials_since_gain(self) -> int:
        """Number of the search's trials, proposed after its best, that have ended and are no better."""
        scores = {trial.number: trial.at_best(self.objective, self.objective) for trial in self.searched}
        ended = [trial.number for trial in self.searched if trial.is_over]
        return trials_since_gain({number: score for number, score in scores.items() if score is not None}, ended)

    def count(self, outcome: Outcome | None) -> int:
        """Number of trials with that outcome; None counts running ones."""
        return sum(trial.outcome is outcome for trial in self.trials)

    @property
    def is_over(self) -> bool:
        """Whether the launch has ended and no trial is recorded as running."""
        return not self.is_open and not self.count(None)

    def counts_in_words(self) -> str:
        """How many trials there are, and how they ended: ``3 trials so far: 1 completed, 2 running``."""
        counts = {**{outcome.value: self.count(outcome) for outcome in Outcome}, RUNNING: self.count(None)}
        found = ", ".join(f"{count} {state}" for state, count in counts.items() if count)
        so_far = " so far" if self.open_trials else ""
        return f"{len(self.trials)} trial{'' if len(self.trials) == 1 else 's'}{so_far}" + (f": {found}" if found else "")

    def __str__(self) -> str:
        """Text for `print`."""
        from tuning.results.text import launch_text

        return launch_text(self)

    @property
    def open_trials(self) -> Mapping[str, int]:
        """Number of trials that run or wait for a resume, by state; empty if the launch ended on its own."""
        return Counter(trial.state for trial in self.trials if not trial.is_over)

    def _repr_html_(self) -> str:
        """HTML for a notebook."""
        from tuning.results.html import launch_html

        return launch_html(self)


@dataclass(frozen=True, kw_only=True)
class SweepSummary:
    """The result of a sweep."""

    study: "Study"
    launch: Launch
    model_uri: str | None
    """The registered champion; None if no trial has a result or the tracking server cannot be reached."""
    num_undelivered: int
    """Number of records that wait in the journal because the tracking server cannot be reached."""
    elapsed_s: float
    tracking_share: float
    """Share of the sweep's wall time that tracking calls took, in callbacks and in the delivering thread."""
    earlier_s: float = 0.0
    """Seconds of earlier attempts, each up to its last record; `elapsed_s` and `tracking_share` are of this attempt."""

    def __str__(self) -> str:
        """Text for `print`."""
        from tuning.results.text import launch_text

        return launch_text(self.launch, self._lines())

    def _repr_html_(self) -> str:
        """HTML for a notebook."""
        from tuning.results.html import launch_html

        return launch_html(self.launch, self._lines())

    def _lines(self) -> list[str]:
        """How long it took, and where the student is."""
        took = f"the sweep took {self.elapsed_s + self.earlier_s:.0f} s"
        where = f"the chosen student is registered as {self.model_uri}" if self.model_uri else "no student is registered"
        waiting = f"{self.num_undelivered} records wait in the journal for the tracking server; a resume delivers them"
        return [took, where, *([waiting] if self.num_undelivered else [])]


def spearman(left: Sequence[float], right: Sequence[float]) -> float | None:
    """Rank correlation of two sequences; None if one of them is constant."""
    if len(set(left)) == 1 or len(set(right)) == 1:
        return None
    import pandas as pd  # not at the top: this import takes longer than all others

    return float(pd.Series(left).rank().corr(pd.Series(right).rank()))
