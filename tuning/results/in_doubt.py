"""What puts a launch's result in doubt: the ground it was searched on, and a champion that has learned nothing."""

from collections.abc import Iterator

from cpsc.ground import Finding, findings, is_surely_above
from tuning.display import percent
from tuning.results.choice import ranked, ties_of
from tuning.results.model import Launch
from tuning.results.trial_record import UNTRAINED, TrialRecord

FEWEST = 3
"""Trials with a result, of which it is worth saying that none is told from another."""


def in_doubt(launch: Launch) -> list[Finding]:
    """What is to be said of `launch` before anyone takes its champion; nothing where all is sound, or where nobody looked.

    From what is recorded alone. Of a launch that an earlier version recorded only what its trials tell.
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
            floor=f"one that always says the commonest class has {percent(ground.largest_class)}",
            meaning="what it knows may be that class, or luck",
            remedy="longer trials, a higher student.lr, other ranges; and the curves of the losses",
        )
    untrained = next(iter(chosen.curves.get(UNTRAINED, {}).values()), None)
    if untrained is not None and not is_surely_above(agreement, untrained, ground.num_images):
        yield Finding(
            name="champion_untrained",
            figure=figure,
            floor=f"before its first step it had {percent(untrained)}",
            meaning="its training has done nothing that can be told from luck",
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
            floor=f"guessing gives {percent(ground.chance)}, give or take what {ground.num_test} images can tell",
            meaning="whatever it agrees with its teacher on, it is nothing about real images",
            remedy="the teacher's normalisation and image_size, a probe set of more steps, longer trials",
        )


def _no_choice(launch: Launch) -> Iterator[Finding]:
    """Where the search's best cannot be told from any other trial of it."""
    trials = [trial for trial in ranked(launch.searched, launch.objective) if trial.best_epoch(launch.objective) is not None]
    if len(trials) < FEWEST or len(ties_of(trials, launch.objective)) < len(trials) - 1:
        return
    if any(trial.marks is None for trial in trials):
        return  # an earlier version recorded them
    yield Finding(
        name="no_trial_apart",
        figure=f"none of the {len(trials)} trials with a result is told from the best",
        floor="McNemar's test at 5 %",
        meaning="which of them is chosen is chance: all are as good as each other, or none has learned anything",
        remedy="a larger probe.num_images, longer trials or wider ranges; where all scores are high, the cheapest student",
    )
