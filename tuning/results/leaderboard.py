"""A launch's trials as rows of text, and the choice in a sentence, for both terminal and notebook."""

from collections.abc import Sequence

from tuning.display import percent
from tuning.outcome import RUNNING
from tuning.results.model import Launch
from tuning.results.trial_record import TrialRecord
from tuning.shown_figures import shown_names, shown_value

ROWS = 10
TIE = " ="


def shown_trials(launch: Launch) -> Sequence[TrialRecord]:
    """The best trials, the chosen one first."""
    return launch.trials[:ROWS]


def title(launch: Launch) -> str:
    """The table's title: how many trials it shows, and of how many."""
    return f"{launch.name}: the best {len(shown_trials(launch))} of {len(launch.trials)} trials"


def headings(launch: Launch) -> list[str]:
    """Headings of the columns of `row`."""
    return ["trial", "outcome", "epochs", *shown_names(launch.objective).values()]


def row(trial: TrialRecord, launch: Launch) -> list[str]:
    """The trial's cells."""
    figures = [shown_value(metric, trial.at_best(metric, launch.objective)) for metric in shown_names(launch.objective)]
    return [trial_label(trial, launch), trial.state, str(trial.num_epochs), *figures]


def trial_label(trial: TrialRecord, launch: Launch) -> str:
    """The trial's number, for a finalist also that of the trial it repeats, and `TIE` if it cannot be told from the best."""
    is_tied = any(trial is tied for tied in launch.ties)
    whose = "" if trial.finalist_of is None else f" (of {trial.finalist_of})"
    return f"{trial.number}{whose}{TIE if is_tied else ''}"


def choice_line(launch: Launch) -> str:
    """Which student was chosen, and by which metric."""
    chosen, objective = launch.chosen, launch.objective
    if chosen is None:
        return "no trial has a result"
    how = "by labelled images" if objective == "test_accuracy" else "without a real image"
    kl = chosen.at_best("probe_kl", objective)
    figures = f"{objective} {percent(chosen.at_best(objective, objective))}" + ("" if kl is None else f", probe KL {kl:.4f}")
    return f"chosen {how}: trial {chosen.number} at epoch {chosen.best_epoch(objective)}, {figures}"


def progress_line(launch: Launch) -> str:
    """Progress of a launch that may still be running."""
    over = sum(trial.is_over for trial in launch.trials)
    states = [f"{over} trials done", *(f"{count} {state}" for state, count in {RUNNING: 0, **launch.open_trials}.items())]
    chosen = launch.chosen
    best = "no result yet" if chosen is None else f"best {percent(chosen.at_best(launch.objective, launch.objective))}"
    whose = "" if chosen is None else f" (trial {chosen.number})"
    return f"{', '.join(states)}, {launch.epochs_run} epochs run, {best}{whose}"
