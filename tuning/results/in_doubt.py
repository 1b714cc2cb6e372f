"""What puts a launch's result in doubt: its teacher, its probe set, or a champion that has learned nothing."""

from collections.abc import Iterator

from cpsc.ground import Finding, findings, is_surely_above
from tuning.display import percent
from tuning.results.choice import ranked, ties_of
from tuning.results.model import Launch
from tuning.results.trial_record import UNTRAINED, TrialRecord

FEWEST = 3
"""Fewest trials with a result for which it is reported that none can be told from the best."""


def in_doubt(launch: Launch) -> list[Finding]:
    """What to know about `launch` before using its champion; empty if all is sound, or if nothing was measured.

    Uses only what is recorded; for a launch of an earlier version that is just its trials.
    """
    found = [] if launch.ground is None else findings(launch.ground)
    if launch.chosen is not None:
        found += [*_champion(launch, launch.chosen), *_no_choice(launch)]
    return found


def _champion(launch: Launch, chosen: TrialRecord) -> Iterator[Finding]:
    ground, agreement = launch.ground, chosen.at_best("probe_agreement", launch.objective)
    if ground is None or agreement is None:
        return
    figure = f"the chosen student agrees with its teacher on {percent(agreement)} of {ground.num_images} probe images"
    if not is_surely_above(agreement, ground.largest_class, ground.num_images):
        yield Finding(
            name="champion_at_chance",
            figure=figure,
            floor=f"always answering the commonest class gives {percent(ground.largest_class)}",
            meaning="it may know nothing but that class, or be lucky",
            remedy="longer trials, a higher student.lr or other ranges, and look at the loss curves",
        )
    untrained = next(iter(chosen.curves.get(UNTRAINED, {}).values()), None)
    if untrained is not None and not is_surely_above(agreement, untrained, ground.num_images):
        yield Finding(
            name="champion_untrained",
            figure=figure,
            floor=f"before its first step it had {percent(untrained)}",
            meaning="its training has had no effect that can be told from luck",
            remedy="a higher student.lr, more epochs or schedule.student_steps",
        )
    yield from _test_accuracy(launch, chosen)


def _test_accuracy(launch: Launch, chosen: TrialRecord) -> Iterator[Finding]:
    ground, accuracy = launch.ground, chosen.at_best("test_accuracy", launch.objective)
    if ground is None or accuracy is None or not ground.num_test:
        return
    if not is_surely_above(accuracy, ground.chance, ground.num_test):
        yield Finding(
            name="test_accuracy_at_chance",
            figure=f"the chosen student's test accuracy is {percent(accuracy)}",
            floor=f"guessing gives {percent(ground.chance)}, within the precision of {ground.num_test} images",
            meaning="its agreement with the teacher does not carry over to real images",
            remedy="another normalisation or image_size of the teacher, a probe set of more steps, longer trials",
        )


def _no_choice(launch: Launch) -> Iterator[Finding]:
    """A finding if the search's best trial cannot be told from any other."""
    trials = [trial for trial in ranked(launch.searched, launch.objective) if trial.best_epoch(launch.objective) is not None]
    if len(trials) < FEWEST or len(ties_of(trials, launch.objective)) < len(trials) - 1:
        return
    if any(trial.marks is None for trial in trials):
        return  # an earlier version recorded them
    yield Finding(
        name="no_trial_apart",
        figure=f"none of the {len(trials)} trials with a result can be told from the best",
        floor="McNemar's test at 5 %",
        meaning="which of them is chosen is chance: all are equally good, or none has learned anything",
        remedy="a larger probe.num_images, longer trials or wider ranges; if all scores are high, take the cheapest student",
    )
